"""Times of frames: doubled stamps, GIF's delays, AVI's one rate, slides."""

import io
from fractions import Fraction

import av
import pytest
from clips import copied, packets, video
from loading import load_video
from video_cases import LIMITS, X264, all_shown, gif, shown

from saccade.media.controls import VideoControls
from saccade.media.errors import DecodeError
from saccade.server.response.vision_report import report_medium


def test_what_one_doubled_stamp_hides():
    """The 20 frames last 0 (one stamp is doubled), four times 100, 5000 and again 100 ms."""
    lasting = [0, *[100] * 4, 5000, *[100] * 14]
    times = [sum(lasting[:number]) for number in range(20)]
    data = with_doubled_stamp(times)
    numbers, plan = shown(data, fps=1.6)
    assert plan.source_frames == 20
    assert numbers == list(plan.frame_indices)
    assert plan.frame_times == pytest.approx([times[n] / 1000 for n in plan.frame_indices])
    assert plan.frame_times[0] == 0
    assert plan.time_deviation > 1
    assert plan.uneven
    assert all_shown(data)[0] == list(range(20))


def with_doubled_stamp(times):
    """VP8 in Matroska, which takes two frames at one time."""
    parts = packets(video("webm", "libvpx", len(times), options={"deadline": "realtime"}))
    output = io.BytesIO()
    with av.open(output, "w", format="matroska") as writer:
        stream = writer.add_stream("libvpx", rate=25)
        stream.width, stream.height = 160, 128
        for number, (data, at) in enumerate(zip(parts, times, strict=True)):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = at
            packet.is_keyframe = number == 0
            writer.mux(packet)
    return output.getvalue()


@pytest.mark.parametrize("delay", [0, 1])
def test_gif_delays_that_browsers_take_for_ten(delay):
    numbers, plan = shown(gif([delay] * 6), nframes=6)
    assert numbers == list(range(6))
    assert plan.frame_times == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert plan.source_fps == pytest.approx(10)
    # Two hundredths are meant.
    assert shown(gif([2] * 6), nframes=6)[1].frame_times[-1] == pytest.approx(0.1)
    mixed = shown(gif([1, 50, 1, 1, 20, 5]), nframes=6)[1]
    assert mixed.frame_times == pytest.approx([0, 0.1, 0.6, 0.7, 0.8, 1.0])
    assert mixed.source_duration == pytest.approx(1.05)


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg1video", "mpeg2video", "libx264"])
def test_avi_has_one_exact_rate(codec):
    options = {X264: "keyint=12"} if codec == "libx264" else {"bf": "2", "g": "12"}
    data = video("avi", codec, options=options)
    for controls in ({"nframes": 40}, {"nframes": 4}, {"nframes": 6, "video_start": 0.5}):
        numbers, plan = shown(data, **controls)
        assert numbers == list(plan.frame_indices)
        assert plan.source_fps == 25.0
        assert plan.frame_times == pytest.approx([index / 25 for index in plan.frame_indices])


@pytest.mark.parametrize("rate", [25, Fraction(30_000, 1001), 15])
def test_h264_copied_into_avi(rate):
    data = copied(video("mp4", "libx264", rate=rate), "avi", bitstream="h264_mp4toannexb")
    numbers, plan = shown(data, nframes=40)
    assert numbers == list(range(40))
    assert plan.source_fps == pytest.approx(float(rate), rel=1e-3)
    assert plan.frame_times == pytest.approx([n / float(rate) for n in range(40)], abs=2e-3)


def test_a_slideshow_tells_the_truth():
    data = gif([500, 100, 100])
    numbers, plan = shown(data)
    assert numbers == [0, 2]  # as qwen-vl-utils has it
    report = report_medium("video", plan, False)
    assert report.source_duration == pytest.approx(7)
    assert report.time_deviation > 1
    assert report.uneven
    assert (report.sampling, report.source_frames) == ("frames", 3)


def test_sampling_by_time_shows_every_slide():
    numbers, plan = shown(gif([500, 100, 100]), sampling="time")
    assert numbers == [0] * 10 + [1] * 2 + [2] * 2
    assert plan.frame_times == pytest.approx([index / 2 for index in range(14)])
    assert (plan.seconds_per_grid, plan.uneven, plan.sampling) == (1.0, False, "time")
    part, plan = shown(gif([500, 100, 100]), sampling="time", nframes=4, video_start=4.0)
    assert part == [0, 0, 1, 2]
    assert plan.frame_times == pytest.approx([4.0, 4.75, 5.5, 6.25])
    # Where the rate is constant, it is the frame that is on screen.
    steady, plan = shown(video("mp4", "libx264"), sampling="time", fps=5.0)
    assert steady == list(plan.frame_indices) == [0, 5, 10, 15, 20, 25, 30, 35]


def test_one_frame_is_one_frame():
    for data in (gif([10]), video("webm", "libvpx", 1), video("ogg", "libvpx", 1)):
        with pytest.raises(DecodeError, match="the video has 1 frame"):
            load_video(data, VideoControls(), LIMITS)
