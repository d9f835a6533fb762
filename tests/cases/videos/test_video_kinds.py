"""Which files are taken, what a refusal names, and what a plan says of them."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest
from clips import video
from loading import load_video
from video_cases import LIMITS, all_shown, gif, shown

from saccade.media.controls import VideoControls
from saccade.media.decode.probe import probe_video
from saccade.media.errors import DecodeError
from saccade.server.cli import main
from saccade.server.response.vision_report import report_medium


@pytest.fixture
def plan(capsys):
    def run(*arguments):
        code = main(["plan", "--json", *map(str, arguments)])
        return code, json.loads(capsys.readouterr().out)["media"]

    return run


@pytest.mark.parametrize(
    ("container", "codec", "pix_fmt"),
    [
        ("mpegts", "libx264", "yuv420p"),
        ("mpegts", "mpeg2video", "yuv420p"),
        ("mpeg", "mpeg1video", "yuv420p"),
        ("flv", "libx264", "yuv420p"),
        ("flv", "flv", "yuv420p"),
        ("ogg", "libvpx", "yuv420p"),
        ("asf", "wmv1", "yuv420p"),
        ("asf", "wmv2", "yuv420p"),
        ("asf", "msmpeg4", "yuv420p"),
        ("3gp", "mpeg4", "yuv420p"),
    ],
)
def test_more_containers_are_taken(container, codec, pix_fmt):
    data = video(container, codec, pix_fmt=pix_fmt)
    assert all_shown(data)[0] == list(range(40))
    numbers, plan = shown(data, nframes=4)
    assert numbers == list(plan.frame_indices) == [0, 13, 26, 39]
    assert plan.frame_times == pytest.approx([0, 0.52, 1.04, 1.56], abs=2e-3)


def test_dnxhr_is_taken():
    data = video(
        "mov",
        "dnxhd",
        8,
        pix_fmt="yuv422p",
        size=(640, 360),
        options={"profile": "dnxhr_sq"},
    )
    assert all_shown(data)[0] == list(range(8))


@pytest.mark.parametrize(
    ("container", "codec", "named"),
    [
        ("ivf", "libvpx", "an IVF video"),
        ("mxf", "mpeg2video", "an MXF video"),
        ("yuv4mpegpipe", "rawvideo", "a YUV4MPEG video"),
        ("avi", "ffvhuff", "ffvhuff"),
        ("matroska", "snow", "snow"),
    ],
)
def test_a_refusal_names_what_came_and_what_is_taken(container, codec, named):
    options = {"strict": "-2"} if codec == "snow" else {}
    with pytest.raises(DecodeError) as refused:
        load_video(video(container, codec, 4, options=options), VideoControls(), LIMITS)
    assert named in refused.value.message
    assert ("h264" if named == codec else "MP4, MOV, WebM") in refused.value.message


@pytest.mark.parametrize("name", ["a.3gp", "clip", "a.jpg", "a.ts"])
def test_plan_reads_the_kind_from_the_bytes(plan, name, tmp_path):
    file = tmp_path / name
    file.write_bytes(video("mp4", "libx264"))
    code, (report,) = plan(file, "--nframes", 4)
    assert (code, report["kind"], len(report["frame_times"])) == (0, "video", 4)


def test_plan_of_a_gif_is_of_a_video_where_it_moves(plan, tmp_path):
    for delays, kind in (([10] * 6, "video"), ([10], "image")):
        (tmp_path / "a.gif").write_bytes(gif(delays))
        assert plan(tmp_path / "a.gif")[1][0]["kind"] == kind


def test_pixels_that_are_not_square():
    """Stored 160 x 120, seen 213 x 120: a circle is squeezed unless it is asked for."""
    row, column = np.mgrid[:120, :160]
    circle = ((row - 60) ** 2 + ((column - 80) * 4 / 3) ** 2 < 50**2) * np.uint8(255)
    pixels = np.repeat(circle[:, :, None], 3, 2)

    def stretch(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    for container, codec in (("mp4", "libx264"), ("matroska", "libx264"), ("avi", "mpeg4")):
        frames = (av.VideoFrame.from_ndarray(pixels, format="rgb24") for _ in range(4))
        data = video(container, codec, frames, size=(160, 120), prepare=stretch)
        for square, ratio in ((None, 3 / 4), (False, 3 / 4), (True, 1)):
            shown, plan = load_video(data, VideoControls(square_pixels=square), LIMITS)
            white = shown[0][..., 1] > 128
            seen = white.any(0).sum() / white.any(1).sum()
            assert seen == pytest.approx(ratio, rel=0.1)
            report = report_medium("video", plan, False)
            assert report.pixel_aspect_ratio == pytest.approx(4 / 3)
            assert report.upright_size == (160, 120)
    assert probe_video(video("mp4", "libx264"), LIMITS).pixel_aspect_ratio == 1
