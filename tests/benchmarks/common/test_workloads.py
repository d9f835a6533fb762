"""Workloads are reproducible, never repeat themselves, and are real media."""

import base64
import io
import json

import av
import numpy as np
import pytest
from PIL import Image

from saccade.benchmarks.common.workloads import Workload, draw_image


def data(request) -> bytes:
    part = json.loads(request.body)["messages"][0]["content"][0]
    return base64.b64decode(part[part["type"]]["url"].partition(",")[2])


@pytest.mark.parametrize("kind", ["image", "video"])
def test_the_same_seed_gives_the_same_bytes(kind):
    first = Workload(kind, ((96, 64),), 8, seed=3, seconds=0.5)
    again = Workload(kind, ((96, 64),), 8, seed=3, seconds=0.5)
    other = Workload(kind, ((96, 64),), 8, seed=4, seconds=0.5)
    assert first.request(5, "m").body == again.request(5, "m").body
    assert first.request(5, "m").body != other.request(5, "m").body


def test_every_request_is_different_and_order_does_not_matter():
    workload = Workload("image", ((64, 64), (96, 64)), 8)
    requests = workload.requests(range(12), "m")
    assert len({data(request) for request in requests}) == 12
    assert [request.index for request in requests] == list(range(12))
    assert requests[7] == workload.request(7, "m")


def test_pictures_have_their_sizes_and_planned_tokens():
    workload = Workload("image", ((448, 448), (1024, 768)), 8)
    sizes = [
        Image.open(io.BytesIO(data(request))).size for request in workload.requests(range(3), "m")
    ]
    assert sizes == [(448, 448), (1024, 768), (448, 448)]
    assert [request.visual_tokens for request in workload.requests(range(2), "m")] == [
        16 * 16,
        37 * 27,  # 1024 / 28 = 36.6, 768 / 28 = 27.4
    ]


def test_a_picture_has_texture_and_compresses_like_a_photograph():
    pixels = draw_image(448, 448, 0, 0).astype(np.int16)
    assert pixels.std() > 30
    assert 0.5 < np.abs(np.diff(pixels, axis=1)).mean() < 20
    bits = 8 * len(data(Workload("image", ((448, 448),), 8).request(0, "m"))) / 448**2
    assert 0.3 < bits < 3


def test_clips_are_h264_of_the_given_length_that_move():
    workload = Workload("video", ((160, 120),), 8, seconds=1.5, frames_per_second=20)
    request = workload.request(0, "m")
    with av.open(io.BytesIO(data(request))) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert (stream.width, stream.height, stream.average_rate) == (160, 120, 20)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(frames) == 30
    assert np.abs(frames[0].astype(int) - frames[-1].astype(int)).mean() > 5
    # 4 frames in 2 steps; 160 x 120 grows to the least area of a frame, 128 tokens.
    assert request.visual_tokens == 2 * (14 * 10)


def test_the_body_is_a_plain_openai_request():
    body = json.loads(Workload("image", ((64, 64),), 8).request(0, "some-model").body)
    assert body["model"] == "some-model"
    assert body["max_tokens"] == 8
    assert body["stream"]
    assert body["stream_options"] == {"include_usage": True}
    assert "ignore_eos" not in body
    content = body["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url", "text"]
    assert json.loads(Workload("image", ((64, 64),), 8, ignore_eos=True).request(0, "m").body)[
        "ignore_eos"
    ]
