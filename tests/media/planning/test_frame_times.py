"""Frame times are those of the container's stamps; a constant frame rate stays what it was."""

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from itertools import accumulate
from typing import Any

import av
import numpy as np
import pytest
from loading import load_video
from media_samples import STAMPED
from PIL import Image

from saccade.media.controls import VideoControls
from saccade.media.decode.probe import probe_video
from saccade.media.errors import ControlError
from saccade.media.limits import MediaLimits
from saccade.media.planning.frame_times import frame_times
from saccade.media.planning.plan import VideoPlan, VideoSource, VisionGeometry, plan_video
from saccade.model.positions import temporal_ids

LIMITS = MediaLimits()
GEOMETRY = VisionGeometry()
NTSC = Fraction(30000, 1001)
Encode = Callable[..., bytes]
Read = Callable[[np.ndarray], int]

# Milliseconds, whole centiseconds for GIF's sake: 24 frames of a camera that now and then dozes.
GAPS = [40, 40, 30, 50, 700, 40, 20, 60, 40, 1200, 40, 40, 330, 40, 70, 20, 40, 40, 40, 900, 40, 40]
UNEVEN = list(accumulate([0, *GAPS, 40]))


def loaded(data: bytes, read: Read, **controls: Any) -> VideoPlan:
    """The plan, once its frames have been found to be the planned ones."""
    frames, plan = load_video(data, VideoControls(**controls), LIMITS)
    assert [read(frame) for frame in frames] == list(plan.frame_indices)
    return plan


def seconds(times: list[int], plan: VideoPlan) -> Any:
    """What the plan's frame times should be, given those of all frames in milliseconds."""
    expected = [(times[index] - times[0]) / 1000 for index in plan.frame_indices]
    return pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("container", "codec"), STAMPED)
@pytest.mark.parametrize("start", [0, 1230])
def test_uneven_times_are_the_true_ones(
    container: str, codec: str, start: int, encode_clip: Encode, shown_number: Read
) -> None:
    """A stamp that the recording happens to begin with does not count."""
    times = [start + time for time in UNEVEN]
    data = encode_clip(container, codec, frames=24, times=times)
    every = loaded(data, shown_number, nframes=24)
    assert every.frame_times == seconds(times, every)
    some = loaded(data, shown_number, nframes=8)
    assert some.frame_indices == (0, 3, 7, 10, 13, 16, 20, 23)
    assert some.frame_times == seconds(times, some)
    assert some.uneven


def test_frames_that_refer_to_later_ones(encode_clip: Encode, shown_number: Read) -> None:
    options = {"x264-params": "keyint=9:bframes=3:b-adapt=0:b-pyramid=normal"}
    for container in ("mp4", "mov", "matroska"):
        data = encode_clip(container, frames=24, times=UNEVEN, codec_options=options)
        with av.open(io.BytesIO(data)) as reader:
            stamps = [packet.pts for packet in reader.demux(video=0) if packet.size]
        assert stamps != sorted(stamps)
        plan = loaded(data, shown_number, nframes=24)
        assert plan.frame_times == seconds(UNEVEN, plan)


def test_rotated_recordings_keep_their_times(encode_clip: Encode, shown_number: Read) -> None:
    data = encode_clip(frames=24, times=UNEVEN, rotation=90)
    source = probe_video(data, LIMITS)
    assert (source.width, source.height) == (128, 192)
    plan = loaded(data, lambda frame: shown_number(np.rot90(frame, -1)), nframes=12)
    assert plan.frame_times == seconds(UNEVEN, plan)


def with_edit(data: bytes, milliseconds: int) -> bytes:
    """Makes an MP4 begin so much later in its media (version 0 edit list of one entry)."""
    with av.open(io.BytesIO(data)) as reader:
        units = milliseconds * reader.streams.video[0].time_base.denominator // 1000
    start = data.index(b"elst") + 4
    version, entries, duration, media_time, _ = struct.unpack_from(">IIIii", data, start)
    assert (version, entries) == (0, 1)
    edited = bytearray(data)
    # Durations of edits count in the movie's unit, a millisecond in FFmpeg's files.
    struct.pack_into(">Ii", edited, start + 8, duration - milliseconds, media_time + units)
    return bytes(edited)


@pytest.mark.parametrize("container", ["mp4", "mov"])
@pytest.mark.parametrize("options", [{}, {"x264-params": "keyint=9:bframes=3:b-adapt=0"}])
def test_an_edit_list_moves_time_zero(
    container: str, options: dict[str, str], encode_clip: Encode, shown_number: Read
) -> None:
    whole = encode_clip(container, frames=24, times=UNEVEN, codec_options=options)
    data = with_edit(whole, UNEVEN[7])
    plan = loaded(data, lambda frame: shown_number(frame) - 7, nframes=16)
    assert plan.source_frames == 17
    assert plan.frame_times == seconds(UNEVEN[7:], plan)


def test_an_empty_edit_delays_nothing(encode_clip: Encode, shown_number: Read) -> None:
    """FFmpeg writes one in front of a clip whose first stamp is not 0."""
    data = encode_clip(frames=24, times=[500 + time for time in UNEVEN])
    start = data.index(b"elst") + 4
    assert struct.unpack_from(">Ii", data, start + 8) == (500, -1)
    plan = loaded(data, shown_number, nframes=24)
    assert plan.frame_times == seconds(UNEVEN, plan)


def test_gif_delays_of_another_writer() -> None:
    delays = [100, 250, 40, 500, 30, 30, 30, 1000]
    pictures = [Image.new("L", (64, 48), 30 * number) for number in range(8)]
    output = io.BytesIO()
    pictures[0].save(output, "GIF", save_all=True, append_images=pictures[1:], duration=delays)
    plan = loaded(output.getvalue(), lambda frame: round(frame.mean() / 30), nframes=8)
    assert plan.frame_times == seconds([0, *accumulate(delays)], plan)


@pytest.mark.parametrize(("container", "codec"), [*STAMPED[:-1], ("avi", "mpeg4")])
@pytest.mark.parametrize("rate", [NTSC, Fraction(24000, 1001), Fraction(60)])
def test_a_constant_rate_is_the_references(
    container: str, codec: str, rate: Fraction, encode_clip: Encode
) -> None:
    """Rounded to milliseconds, 29.97 frames a second are up to 0.5 ms off; no id may move."""
    source = probe_video(encode_clip(container, codec, frames=130, rate=rate), LIMITS)
    assert source.times is None
    assert source.fps == float(rate)
    for controls in ({}, {"fps": 10.0}, {"video_start": 1.0, "video_end": 2.002}):
        plan = plan_video(source, VideoControls(**controls), GEOMETRY)
        assert plan.frame_times == tuple(index / float(rate) for index in plan.frame_indices)
        assert plan.time_deviation == 0
        total = plan.frame_indices[-1] - plan.frame_indices[0] + 1
        exact = [
            int(2 * k * total / (len(plan.frame_indices) * rate) * 2) for k in range(plan.grid[0])
        ]
        ids = temporal_ids(plan.grid[0], plan.seconds_per_grid, 2)
        np.testing.assert_array_equal(ids, exact)


def test_milliseconds_copied_into_a_finer_unit(encode_clip: Encode) -> None:
    """WebM turned into MP4 without encoding: units of 1/16000 s, all times whole milliseconds."""
    output = io.BytesIO()
    data = encode_clip("webm", "libvpx-vp9", frames=130, rate=NTSC)
    with av.open(io.BytesIO(data)) as reader, av.open(output, "w", format="mp4") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for packet in reader.demux(video=0):
            if packet.size:
                packet.stream = stream
                writer.mux(packet)
    with av.open(io.BytesIO(output.getvalue())) as reader:
        assert reader.streams.video[0].time_base == Fraction(1, 16_000)
    stamps = [16 * round(1000 * number / NTSC) for number in range(130)]
    assert frame_times(stamps, Fraction(1, 16_000), float(NTSC)) is None
    source = probe_video(output.getvalue(), LIMITS)
    plan = plan_video(source, VideoControls(), GEOMETRY)
    assert plan.time_deviation < 1e-3


def test_a_dropped_frame_is_not_rounding() -> None:
    stamps = [number for number in range(50) if number != 20]
    for time_base in (Fraction(1, 25), Fraction(1, 1000), Fraction(1, 90_000)):
        unit = 1 / 25 / time_base
        times = frame_times([int(stamp * unit) for stamp in stamps], time_base, 25.0)
        assert times is not None
        assert times.seconds[19:21].tolist() == [0.76, 0.84]
        assert frame_times([int(n * unit) for n in range(50)], time_base, 25.0) is None


@pytest.mark.parametrize("stamps", [None, [50, 50, 50], [0, 40, 80, 120], [7, 47]])
def test_stamps_that_tell_nothing_new(stamps: list[int] | None) -> None:
    assert frame_times(stamps, Fraction(1, 1000), 25.0) is None


def test_one_doubled_stamp_leaves_the_others_true() -> None:
    times = frame_times([0, 50, 50, 250], Fraction(1, 1000), 25.0)
    assert times is not None
    assert times.seconds.tolist() == [0.0, 0.05, 0.05, 0.25]


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("mpeg4", {"bf": "2"}),
        ("libx264", {"x264-params": "bframes=2:b-adapt=0"}),
    ],
)
def test_without_presentation_stamps_the_average_rate_holds(
    codec: str, options: dict[str, str], encode_clip: Encode, shown_number: Read
) -> None:
    """AVI has none. FFmpeg makes some up, in the wrong order for H.264."""
    data = encode_clip("avi", codec, codec_options=options)
    plan = loaded(data, shown_number, nframes=10)
    assert plan.frame_times == tuple(index / 25 for index in plan.frame_indices)
    assert not plan.uneven


def test_frames_that_are_never_shown(encode_clip: Encode) -> None:
    """VP8 packets that are never shown, in the middle: they have no time."""
    output = io.BytesIO()
    data = encode_clip("webm", "libvpx", frames=24, times=UNEVEN)
    with av.open(io.BytesIO(data)) as reader, av.open(output, "w", format="webm") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        packets = [packet for packet in reader.demux(video=0) if packet.size]
        assert not any(packet.is_keyframe for packet in packets[1:])
        for number, packet in enumerate(packets):
            if number % 4 == 3:
                hidden = bytearray(bytes(packet))
                hidden[0] &= ~0x10  # show_frame (RFC 6386, 9.1)
                stamp = packet.pts
                packet = av.Packet(bytes(hidden))
                packet.time_base, packet.pts, packet.dts = Fraction(1, 1000), stamp, stamp
            packet.stream = stream
            writer.mux(packet)
    source = probe_video(output.getvalue(), LIMITS)
    assert source.frames == 18
    frames, plan = load_video(output.getvalue(), VideoControls(min_frames=18), LIMITS)
    shown = [time for number, time in enumerate(UNEVEN) if number % 4 != 3]
    assert plan.source_frames == len(frames) == 18
    assert plan.frame_times == seconds(shown, plan)


def source_at(times: list[int], fps: float) -> VideoSource:
    return VideoSource(192, 128, len(times), fps, frame_times(times, Fraction(1, 1000), fps))


def test_temporal_ids_of_uneven_frames(encode_clip: Encode, shown_number: Read) -> None:
    """By hand: eight frames in 4.3 s, two a step: 2 * 4.3 / 7 = 1.2286 s a step, 2.457 ids."""
    times = [0, 100, 200, 300, 1300, 2300, 3300, 4300]
    for container, codec in STAMPED:
        plan = loaded(encode_clip(container, codec, frames=8, times=times), shown_number, nframes=8)
        assert plan.seconds_per_grid == pytest.approx(8.6 / 7, abs=1e-9)
        assert temporal_ids(4, plan.seconds_per_grid, 2).tolist() == [0, 2, 4, 7]
        # Evenly spaced, the fourth would be shown at 3 * 4.3 / 7 = 1.8429 s.
        assert plan.time_deviation == pytest.approx(3 * 4.3 / 7 - 0.3, abs=1e-9)
        assert plan.uneven


def test_sampling_keeps_the_references_frames() -> None:
    even = plan_video(VideoSource(192, 128, 24, 6.0), VideoControls(fps=2.0), GEOMETRY)
    uneven = plan_video(source_at(UNEVEN, 6.0), VideoControls(fps=2.0), GEOMETRY)
    assert uneven.frame_indices == even.frame_indices == (0, 3, 7, 10, 13, 16, 20, 23)
    assert uneven.grid == even.grid
    # 24 frames in 3.9 s and one frame's share more, eight of them sampled.
    assert UNEVEN[-1] == 3900
    assert uneven.sampled_fps == pytest.approx(8 / 24 * 23 / 3.9)


def test_start_and_end_are_presented_seconds(encode_clip: Encode, shown_number: Read) -> None:
    # Frame 4 is shown at 0.16 s, frame 5 at 0.86, frame 9 at 1.02, frame 10 at 2.22.
    assert [UNEVEN[number] for number in (4, 5, 9, 10)] == [160, 860, 1020, 2220]
    data = encode_clip(frames=24, times=UNEVEN)
    for controls, first, last in (
        ({"video_start": 0.86}, 5, 23),
        ({"video_start": 0.17}, 5, 23),
        ({"video_end": 0.16}, 0, 4),
        ({"video_end": 0.85}, 0, 4),
        ({"video_end": 1e6}, 0, 23),
        ({"video_start": 0.86, "video_end": 2.3}, 5, 12),
    ):
        plan = loaded(data, shown_number, min_frames=2, max_frames=4, **controls)
        assert (plan.frame_indices[0], plan.frame_indices[-1]) == (first, last), controls
        assert plan.frame_times == seconds(UNEVEN, plan)
    for controls, param in (
        ({"video_start": 1.03, "video_end": 2.23}, "video_start"),
        ({"video_start": 9.0}, "video_start"),
        ({"video_end": 0.01}, "video_end"),
    ):
        with pytest.raises(ControlError) as caught:
            loaded(data, shown_number, **controls)
        assert caught.value.param == param


def test_reported_times_can_be_asked_for_again() -> None:
    source = source_at([round(time * 1.001) for time in UNEVEN], 6.0)
    assert source.times is not None
    for first in range(20):
        asked = VideoControls(
            video_start=float(source.times.seconds[first]),
            video_end=float(source.times.seconds[first + 3]),
            nframes=4,
        )
        plan = plan_video(source, asked, GEOMETRY)
        assert plan.frame_indices == tuple(range(first, first + 4))


def test_a_steady_stretch_of_an_uneven_clip_keeps_the_nominal_seconds() -> None:
    times = [round(1000 * number / NTSC) for number in range(121)]
    source = source_at([*times, times[-1] + 1500, times[-1] + 4000], float(NTSC))
    assert source.times is not None
    stretch = VideoControls(fps=2.0, video_end=4.0)
    plan = plan_video(source, stretch, GEOMETRY)
    steady = plan_video(VideoSource(192, 128, 123, float(NTSC)), stretch, GEOMETRY)
    assert plan.frame_indices == steady.frame_indices
    assert plan.seconds_per_grid == steady.seconds_per_grid
    assert plan.frame_times == pytest.approx(steady.frame_times, abs=0.5e-3)
    assert not plan.uneven
    assert plan_video(source, VideoControls(fps=2.0), GEOMETRY).uneven


def test_uneven_means_beyond_half_a_source_frame() -> None:
    for late, uneven in ((12, False), (19, False), (21, True), (35, True)):
        times = [40 * number for number in range(50)]
        times[17] += late
        plan = plan_video(source_at(times, 25.0), VideoControls(nframes=50), GEOMETRY)
        assert plan.time_deviation == pytest.approx(late / 1000, abs=1e-9)
        assert plan.uneven is uneven
        # A frame that is not sampled does not matter.
        fewer = plan_video(source_at(times, 25.0), VideoControls(nframes=8), GEOMETRY)
        assert 17 not in fewer.frame_indices
        assert fewer.time_deviation == pytest.approx(0, abs=1e-9)
        assert fewer.sampled_fps == 8 / 50 * 25.0


def test_plans_of_equal_clips_are_equal_and_of_others_not() -> None:
    """The cache key of a clip holds the plan's repr: plain numbers, all of them."""
    moved = [*UNEVEN[:-1], UNEVEN[-1] + 7]
    one, same, other = (
        plan_video(source_at(times, 6.0), VideoControls(), GEOMETRY)
        for times in (UNEVEN, list(UNEVEN), moved)
    )
    assert one == same
    assert hash(one) == hash(same)
    assert repr(one) == repr(same) != repr(other)
    assert "np." not in repr(one)
