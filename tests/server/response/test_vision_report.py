"""The report says what the model was shown; a plan says it before."""

import base64
import io

import numpy as np
import pytest
from hidden_frames import encode_vp8, with_hidden_frames
from PIL import Image

from saccade.media.controls import VideoControls
from saccade.media.decode.probe import probe_video
from saccade.media.limits import MediaLimits
from saccade.media.planning.plan import VisionGeometry, plan_video

TEXT = {"type": "text", "text": "What?"}


def body(*parts, **fields):
    messages = [{"role": "user", "content": [TEXT, *parts]}]
    return {"model": "demo", "max_tokens": 2, "messages": messages, **fields}


def turned_photo(width, height, orientation):
    """A JPEG whose EXIF says that it is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "green").save(buffer, "JPEG", exif=exif)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def parts(image_url, clip_url):
    frames = [image_url(280, 140, colour) for colour in ("red", "green", "blue")]
    return [
        {"type": "image_url", "image_url": {"url": turned_photo(280, 140, 6)}, "max_pixels": 20000},
        {"type": "video_url", "video_url": {"url": clip_url}, "nframes": 4, "video_start": 1.0},
        {"type": "video", "video": frames, "sample_fps": 4.0, "max_pixels": 100352},
    ]


def test_nothing_is_added_unasked(server, image_url):
    part = {"type": "image_url", "image_url": {"url": image_url(56, 56)}}
    assert "vision" not in server.post(body(part)).json()


def test_report(server, parts, clip):
    answer = server.post(body(*parts, vision={"report": True})).json()
    photo, video, frames = answer["vision"]["media"]
    assert photo == {
        "path": "messages[0].content[1]",
        "kind": "image",
        "source_size": [280, 140],
        "upright_size": [140, 280],
        # Shrunk by the root of 39,200 / 20,000 to 100 x 200, then down to multiples of 28.
        "resized_size": [84, 196],
        "scale": [84 / 140, 196 / 280],
        "grid": [1, 14, 6],
        "tokens": 21,
    }
    source = probe_video(clip, MediaLimits())
    plan = plan_video(source, VideoControls(nframes=4, video_start=1.0), VisionGeometry())
    assert (video["path"], video["kind"]) == ("messages[0].content[2]", "video")
    assert video["source_size"] == video["upright_size"] == [source.width, source.height]
    assert video["resized_size"] == [plan.width, plan.height]
    assert video["grid"] == list(plan.grid)
    assert video["tokens"] == plan.tokens == np.prod(plan.grid) // 4
    assert (video["source_fps"], video["source_frames"]) == (source.fps, source.frames)
    assert video["source_duration"] == source.frames / source.fps
    assert video["frame_indices"] == list(plan.frame_indices)
    assert video["frame_times"] == [index / source.fps for index in plan.frame_indices]
    assert video["frame_times"][0] >= 1.0
    assert video["seconds_per_grid"] == 2 / video["sampled_fps"] == plan.seconds_per_grid
    assert (video["uneven"], video["time_deviation"]) == (False, 0.0)
    # Three frames are shown as four, the last one twice.
    assert frames["frame_indices"] == [0, 1, 2, 2]
    assert frames["frame_times"] == [0.0, 0.25, 0.5, 0.75]
    assert (frames["source_fps"], frames["seconds_per_grid"]) == (4.0, 0.5)
    details = answer["usage"]["prompt_tokens_details"]
    assert details["image_tokens"] == photo["tokens"]
    assert details["video_tokens"] == video["tokens"] + frames["tokens"]


def test_in_a_stream_it_stands_in_the_first_chunk(client, parts):
    request = body(*parts)
    whole = client.chat.completions.create(**request, extra_body={"vision": {"report": True}})
    chunks = list(
        client.chat.completions.create(
            **request, stream=True, extra_body={"vision": {"report": True}}
        )
    )
    assert chunks[0].vision == whole.vision
    assert not any(hasattr(chunk, "vision") for chunk in chunks[1:])


def test_a_plan_says_before_what_the_answer_says(server, parts):
    request = body(*parts, tools=[{"type": "function", "function": {"name": "look"}}])
    before = server.generated()
    plan = server.post({**request, "model": None}, "/v1/vision/plan").json()
    assert server.generated() == before
    answer = server.post({**request, "vision": {"report": True}}).json()
    assert plan["media"] == answer["vision"]["media"]
    usage = answer["usage"]
    assert plan["prompt_tokens"] == usage["prompt_tokens"]
    assert plan["image_tokens"] == usage["prompt_tokens_details"]["image_tokens"]
    assert plan["video_tokens"] == usage["prompt_tokens_details"]["video_tokens"]
    media = plan["image_tokens"] + plan["video_tokens"]
    assert plan["text_tokens"] == plan["prompt_tokens"] - media > 0
    assert (plan["admitted"], plan["reason"], plan["max_model_len"]) == (True, None, 4096)
    server.wait_until_idle()


def test_a_plan_knows_what_fits(server, image_url):
    def request(tokens):
        # 62 x 64 tokens, and a strip that makes up the rest.
        sizes = (28 * 62, 28 * 64), (28 * tokens, 28)
        parts = [{"type": "image", "image": image_url(*size)} for size in sizes]
        return body(*parts, max_tokens=1)

    taken = server.post(request(10), "/v1/vision/plan").json()["prompt_tokens"] - 10
    for tokens, status in ((4095 - taken, 200), (4096 - taken, 400), (4097 - taken, 400)):
        plan = server.post(request(tokens), "/v1/vision/plan").json()
        assert plan["admitted"] == (status == 200)
        answer = server.post(request(tokens))
        assert answer.status_code == status
    assert plan["reason"] == answer.json()["error"]["code"] == "context_length_exceeded"


def test_media_larger_than_the_context_are_planned(server, image_url):
    part = {"type": "image_url", "image_url": {"url": image_url(2240, 2240)}}
    plan = server.post(body(part), "/v1/vision/plan").json()
    assert (plan["image_tokens"], plan["admitted"]) == (6400, False)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (
            {"messages": [{"role": "user", "content": [{"type": "x"}]}]},
            "messages[0].content[0].type",
        ),
        ({"temperature": "hot"}, "temperature"),
        ({"vision": {"report": 1}}, "vision.report"),
        ({"messages": None}, "messages"),
        ({"max_tokens": 5000}, "max_tokens"),
    ],
)
def test_a_plan_refuses_what_chat_refuses(server, fields, param):
    request = {**body(), **fields}
    for path in ("/v1/vision/plan", "/v1/chat/completions"):
        answer = server.post(request, path)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_video_with_fewer_frames_than_packets_is_reported_as_decoded(server):
    data = base64.b64encode(with_hidden_frames(encode_vp8(30), 10)).decode()
    video = {"type": "video_url", "video_url": {"url": f"data:;base64,{data}"}, "nframes": 6}
    answer = server.post(body(video, vision={"report": True})).json()
    (seen,) = answer["vision"]["media"]
    assert seen["source_frames"] == 30
    assert seen["frame_indices"] == [0, 6, 12, 17, 23, 29]
    assert answer["usage"]["prompt_tokens_details"]["video_tokens"] == seen["tokens"]
