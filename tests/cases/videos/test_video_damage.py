"""Damaged videos: what is missing costs no more than its frames, and is told."""

import io

import av
import pytest
from clips import broken, packets, plain, read_number, video
from loading import load_video
from video_cases import LIMITS, QUIET, X264, X265, all_shown

from saccade.media.controls import VideoControls
from saccade.media.decode.probe import probe_video
from saccade.server.response.vision_report import report_medium


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        ("mp4", "libx264", {X264: "keyint=10"}),
        ("matroska", "libx264", {X264: "keyint=10:bframes=0"}),
        ("mp4", "libx265", {X265: f"keyint=10:{QUIET}"}),
        ("webm", "libvpx", {"g": "10"}),
        ("webm", "libvpx-vp9", {"g": "10"}),
        ("avi", "mjpeg", {}),
        ("matroska", "ffv1", {"g": "1"}),
    ],
)
def test_a_damaged_packet_costs_no_more_than_its_frames(container, codec, options):
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    data = video(container, codec, pix_fmt=pix_fmt, options=options)
    data = broken(data, 15)
    frames, plan = load_video(data, VideoControls(nframes=40), LIMITS)
    assert plan.source_frames == 40
    assert 1 <= plan.damaged_frames <= 5
    numbers = [read_number(frame) for frame in frames]
    assert numbers[:10] == list(range(10))
    assert numbers[20:] == list(range(20, 40))
    assert report_medium("video", plan, False).damaged_frames == plan.damaged_frames
    assert all_shown(video(container, codec, pix_fmt=pix_fmt))[1].damaged_frames == 0


def shortened(data, container, number):
    """With all but the first 20 bytes of a packet left out."""
    output = io.BytesIO()
    with av.open(io.BytesIO(data)) as reader, av.open(output, "w", format=container) as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for index, packet in enumerate(one for one in reader.demux(video=0) if one.size):
            copy = av.Packet(bytes(packet)[:20] if index == number else bytes(packet))
            copy.stream, copy.time_base, copy.duration = stream, packet.time_base, packet.duration
            copy.pts, copy.dts, copy.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
            writer.mux(copy)
    return output.getvalue()


@pytest.mark.parametrize(
    ("container", "codec", "pix_fmt", "size"),
    [
        ("3gp", "h263", "yuv420p", (176, 144)),
        ("avi", "msmpeg4", "yuv420p", (160, 128)),
        ("avi", "dvvideo", "yuv420p", (720, 576)),
        ("mov", "png", "rgb24", (160, 128)),
    ],
)
def test_damage_of_which_decoders_say_something_else(container, codec, pix_fmt, size):
    data = video(container, codec, 12, pix_fmt=pix_fmt, size=size, options={"g": "4"})
    frames, plan = load_video(shortened(data, container, 5), VideoControls(nframes=10), LIMITS)
    assert (plan.source_frames, plan.damaged_frames) == (12, 1)
    numbers = [read_number(frame) for frame in frames]
    assert (numbers[0], numbers[-1]) == (0, 11)
    assert set(numbers) <= set(range(12))


def test_bytes_that_are_missing_from_an_avi():
    data = video("avi", "mpeg4", options={"g": "10"})
    middle = len(data) // 2
    data = data[:middle] + data[middle + 200 :]
    count = len(plain(data))
    frames, plan = load_video(data, VideoControls(nframes=count // 2 * 2), LIMITS)
    assert plan.source_frames == count
    assert (read_number(frames[0]), read_number(frames[-1])) == (0, 39)


def test_raw_frames_that_are_cut_short():
    data = video("avi", "rawvideo", 20, pix_fmt="bgr24")
    frames, plan = load_video(data[: len(data) * 5 // 8], VideoControls(nframes=12), LIMITS)
    assert (plan.source_frames, plan.damaged_frames) == (13, 1)
    assert read_number(frames[0]) == 0
    assert read_number(frames[-1]) == 11


def test_still_frames_of_a_few_bytes():
    frames = (av.VideoFrame(32, 32, "gray").reformat(format="yuv420p") for _ in range(30))
    data = video("avi", "mpeg4", frames, size=(32, 32))
    assert min(map(len, packets(data))) <= 8
    assert probe_video(data, LIMITS).frames == 30


def test_a_damaged_beginning():
    data = video("mp4", "libx264", options={X264: "keyint=10:bframes=0"})
    numbers, plan = all_shown(broken(data, 0))
    assert numbers[-1] == 39
    assert len(numbers) + plan.damaged_frames == 40
