"""Clips that cost more than the limits grant, or break off: refused, and before they cost it.

Every limit is set below what an ordinary file needs. FFmpeg has no such limits of its own; what it
did with files made to exceed them is said in `saccade.media.decode.mp4_limits`.
"""

import io
from dataclasses import replace
from fractions import Fraction
from itertools import count
from threading import Event
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from loading import load_video
from loading_child import LIMITS
from media_samples import raster
from real_files import FRAMES, HEIGHT, PIXEL_FORMATS, WIDTH, encode_clip, real_clips

from saccade.media.controls import VideoControls
from saccade.media.decode import container, probe, video
from saccade.media.decode.container import Cancelled, DecodeDeadline
from saccade.media.decode.mp4_limits import check_mp4_samples
from saccade.media.decode.probe import probe_video
from saccade.media.decode.video import decode_video
from saccade.media.errors import DecodeError, LimitError
from saccade.media.planning.plan import VideoSource, VisionGeometry, plan_video

CLIPS = real_clips()
EXACT = replace(LIMITS, max_frame_pixels=WIDTH * HEIGHT)
# Containers that announce what is in them.
ANNOUNCED = sorted(set(CLIPS) - {"avi", "avi-mjpeg", "gif-clip"})


SOURCE = VideoSource(WIDTH, HEIGHT, FRAMES, 25.0)
CONTROLS = VideoControls(nframes=FRAMES)
PLAN = plan_video(SOURCE, CONTROLS, VisionGeometry())


@pytest.fixture
def nothing_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for a frame fails."""

    def decode(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(probe, "_list_packets", decode)
    monkeypatch.setattr(video, "decoded_frames", decode)


@pytest.mark.usefixtures("nothing_decodes")
@pytest.mark.parametrize("name", ["mp4", "mp4-fragments", "mov", "mkv", "webm-vp8"])
def test_pixels_of_a_frame_are_counted_before_it_is_decoded(name: str) -> None:
    limits = replace(LIMITS, max_frame_pixels=WIDTH * HEIGHT - 1)
    for read in (
        lambda: probe_video(CLIPS[name], limits),
        lambda: decode_video(CLIPS[name], SOURCE, PLAN, limits),
    ):
        with pytest.raises(LimitError, match=f"the limit is {WIDTH * HEIGHT - 1}"):
            read()


@pytest.mark.parametrize("name", CLIPS)
def test_no_frame_of_too_many_pixels_is_decoded(name: str) -> None:
    """Of some clips FFmpeg itself refuses, which is told the limit, before it says their size."""
    assert len(load_video(CLIPS[name], CONTROLS, LIMITS)[0]) == FRAMES
    with pytest.raises((LimitError, DecodeError)):
        probe_video(CLIPS[name], replace(LIMITS, max_frame_pixels=WIDTH * HEIGHT - 1))


@pytest.mark.parametrize("name", CLIPS)
def test_frames_and_seconds_are_counted(name: str) -> None:
    exact = replace(LIMITS, max_source_frames=FRAMES, max_video_seconds=FRAMES / 25)
    if name in ("mkv", "webm-vp8", "webm-vp9"):  # their elements, of which each has a few more
        exact = replace(exact, max_source_frames=50)
        assert probe_video(CLIPS[name], exact).frames == FRAMES
    else:
        assert probe_video(CLIPS[name], exact).frames == FRAMES
        with pytest.raises(LimitError, match=f"more than {FRAMES - 1} frames"):
            probe_video(CLIPS[name], replace(exact, max_source_frames=FRAMES - 1))
    with pytest.raises(LimitError, match=r"the limit is 0\.2 s"):
        probe_video(CLIPS[name], replace(exact, max_video_seconds=0.2))


@pytest.mark.parametrize("name", ANNOUNCED)
def test_what_is_announced_is_counted_before_ffmpeg_sees_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(av, "open", None)
    with pytest.raises(LimitError, match=r"samples|elements"):
        probe_video(CLIPS[name], replace(LIMITS, max_source_frames=FRAMES // 2 - 1))


def changing_size(container: str, codec: str) -> bytes:
    """Eight frames, the last four of twice the width and height, as calls are recorded."""
    output = io.BytesIO()
    with av.open(output, "w", format=container) as writer:
        stream = writer.add_stream(codec, rate=25)
        encoders = [stream.codec_context, av.CodecContext.create(codec, "w")]
        for number, encoder in enumerate(encoders):
            encoder.width, encoder.height = WIDTH << number, HEIGHT << number
            encoder.pix_fmt = PIXEL_FORMATS.get(codec, "yuv420p")
            encoder.time_base = Fraction(1, 25)
            frames = map(av.VideoFrame.from_ndarray, raster(3, 4, encoder.height, encoder.width))
            packets = []
            for index, frame in enumerate(frames):
                frame.pts = 4 * number + index
                packets += encoder.encode(frame)
            for packet in [*packets, *encoder.encode()]:
                packet.stream, packet.time_base = stream, Fraction(1, 25)
                writer.mux(packet)
    return output.getvalue()


@pytest.mark.parametrize(
    ("container", "codec"), [("matroska", "mjpeg"), ("webm", "libvpx"), ("avi", "mjpeg")]
)
def test_a_frame_larger_than_its_container_says(container: str, codec: str) -> None:
    """Only the decoder sees it, and what was checked is all that it may decode."""
    clip = changing_size(container, codec)
    large = replace(LIMITS, max_frame_pixels=4 * WIDTH * HEIGHT)
    assert len(load_video(clip, CONTROLS, large)[0]) == 8
    for most in (WIDTH * HEIGHT, 4 * WIDTH * HEIGHT - 1):
        with pytest.raises(DecodeError):
            load_video(clip, CONTROLS, replace(LIMITS, max_frame_pixels=most))


def test_ffmpeg_is_told_the_limits_whenever_it_opens_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To learn of a stream it decodes; and some formats name other files, some codecs are rare."""
    told: list[dict[str, str]] = []
    really = av.open

    def opened(*given: Any, options: dict[str, str], **more: Any) -> Any:
        told.append(options)
        return really(*given, options=options, **more)

    monkeypatch.setattr(av, "open", opened)
    load_video(CLIPS["mp4"], CONTROLS, EXACT)
    assert len(told) == 2  # to plan, to decode
    for options in told:
        assert options["max_pixels"] == str(WIDTH * HEIGHT)
        assert options["format_whitelist"] == "mov,matroska,avi,gif,mpegts,mpeg,flv,ogg,asf"
        assert options["protocol_whitelist"] == "none"
        assert "ffvhuff" not in options["codec_whitelist"].split(",")


SHORTEST = [
    *(("mp4", "libx264"), ("mov", "libx264"), ("matroska", "libx264")),
    *(("webm", "libvpx"), ("avi", "mpeg4"), ("gif", "gif")),
]


@pytest.mark.parametrize(("container", "codec"), SHORTEST)
def test_clips_of_one_frame(container: str, codec: str) -> None:
    with pytest.raises(DecodeError) as caught:
        load_video(encode_clip(container, codec, 1), CONTROLS, LIMITS)
    assert caught.value.message == "the video has 1 frame(s), at least 2 are needed"


@pytest.mark.parametrize(("container", "codec"), SHORTEST[:-1])
def test_clips_of_no_frame(container: str, codec: str) -> None:
    clip = encode_clip(container, codec, 0)
    assert len(clip) > 10  # a container all the same
    with pytest.raises(DecodeError):
        load_video(clip, CONTROLS, LIMITS)


def box(name: bytes, *inner: bytes) -> bytes:
    """One MP4 box."""
    body = b"".join(inner)
    return (8 + len(body)).to_bytes(4, "big") + name + body


def fields(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "big") for value in values)


def track(kind: bytes, *durations: tuple[int, int], samples: int, more: bytes = b"") -> bytes:
    """The header of a track, as far as it is counted: samples of one size, (how many, how long)."""
    return box(
        b"moov",
        box(
            b"trak",
            box(b"hdlr", fields(0, 0), kind),
            box(b"stts", fields(0, len(durations)), *(fields(*one) for one in durations)),
            box(b"stsz", fields(0, 1, samples)),
            more,
        ),
    )


def test_a_track_is_counted_unless_it_is_pcm_sound_for_sure() -> None:
    check_mp4_samples(track(b"soun", (3, 1), samples=3), 2)
    for counted in (
        track(b"vide", (3, 1), samples=3),
        track(b"text", (3, 1), samples=3),
        track(b"sounvide", (3, 1), samples=3),
        track(b"sounsoun", (3, 1), samples=3),
        track(b"soun", (3, 1), samples=3, more=box(b"stts")),
        track(b"soun", (3, 1), samples=3, more=box(b"trak")),
        track(b"soun", (3, 1024), samples=3),
        track(b"soun", (2, 1), (1, 2), samples=3),
    ):
        check_mp4_samples(counted, 3)
        with pytest.raises(LimitError, match="announces 3 samples; the limit is 2"):
            check_mp4_samples(counted, 2)


def sound(seconds: int) -> bytes:
    """A MOV of a few frames and of PCM sound, every sample of which counts as one."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mov") as writer:
        pictures = writer.add_stream("libx264", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        stream = writer.add_stream("pcm_s16le", rate=48_000)
        silence = av.AudioFrame.from_ndarray(
            np.zeros((1, 48_000), np.int16), format="s16", layout="mono"
        )
        silence.sample_rate = 48_000
        for _ in range(seconds):
            writer.mux(stream.encode(silence))
        for _ in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            writer.mux(pictures.encode(frame))
        writer.mux(pictures.encode())
        writer.mux(stream.encode())
    return buffer.getvalue()


def test_samples_of_sound_are_not_counted() -> None:
    clip = sound(2)
    check_mp4_samples(clip, most_samples=FRAMES)
    with pytest.raises(LimitError):
        check_mp4_samples(clip, most_samples=FRAMES - 1)
    assert probe_video(clip, replace(LIMITS, max_source_frames=FRAMES)).frames == FRAMES


def test_samples_are_counted_where_ffmpeg_reads_them() -> None:
    """In a header of any form that the standard knows, and in the headers of fragments."""
    clip = CLIPS["mp4"]
    header = clip.index(b"moov") - 4
    assert clip.index(b"mdat") < header
    moov = clip[header:]
    long = b"\0\0\0\1moov" + (len(moov) + 8).to_bytes(8, "big") + moov[8:]
    to_the_end = b"\0\0\0\0" + moov[4:]
    for written in (moov, long, to_the_end):
        check_mp4_samples(clip[:header] + written, FRAMES)
        with pytest.raises(LimitError):
            check_mp4_samples(clip[:header] + written, FRAMES - 1)
        check_mp4_samples(box(b"mdat", written), 0)  # but a clip may show anything
    check_mp4_samples(CLIPS["mp4-fragments"], FRAMES)
    with pytest.raises(LimitError):
        check_mp4_samples(CLIPS["mp4-fragments"], FRAMES - 1)


def test_counts_stand_behind_sizes_of_64_bits_too() -> None:
    sizes = box(b"stsz", fields(0, 1, 3))
    long = b"\0\0\0\1stsz" + (len(sizes) + 8).to_bytes(8, "big") + sizes[8:]
    for written in (sizes, long, box(b"stz2", fields(0, 8, 3)), box(b"trun", fields(0, 3, 0))):
        check_mp4_samples(box(b"moov", written), 3)
        with pytest.raises(LimitError):
            check_mp4_samples(box(b"moov", written), 2)


def test_compressed_headers_are_refused_by_name() -> None:
    """Of one nobody can tell what it holds before it is unpacked."""
    check_mp4_samples(box(b"mdat", b"cmov"), 0)
    with pytest.raises(DecodeError, match="compressed header"):
        check_mp4_samples(box(b"moov", box(b"cmov")), 0)
    with pytest.raises(DecodeError, match="compressed header"):
        probe_video(CLIPS["mp4"] + box(b"free", b"cmov"), LIMITS)


def test_decoding_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    source = probe_video(CLIPS["mp4"], LIMITS)
    for path in ("scheduled", "from the beginning"):
        if path == "from the beginning":
            source = replace(source, packets=None)
        seconds = count()
        clock = SimpleNamespace(monotonic=lambda seconds=seconds: next(seconds))
        monkeypatch.setattr(container, "time", clock)
        with pytest.raises(LimitError, match="longer than 3 s"):
            decode_video(CLIPS["mp4"], source, PLAN, replace(LIMITS, max_decoding_seconds=3.0))
        assert next(seconds) == 5, path  # it began at 0, and the fourth packet was the last


def test_packets_that_give_no_frame_are_watched_too() -> None:
    """A decoder may swallow packet after packet: cancelling must not wait for a frame."""
    data = encode_clip("webm", "libvpx", 30)
    source = probe_video(data, LIMITS)
    with av.open(io.BytesIO(data)) as reader:
        packets = [bytes(packet) for packet in reader.demux(video=0) if packet.size]
    for packet in packets:
        hidden = bytes([packet[0] & ~0x10]) + packet[1:]  # show_frame (RFC 6386, 9.1)
        data = data.replace(packet, hidden)
    with pytest.raises(DecodeError):
        decode_video(data, source, PLAN, LIMITS)
    cancelled = Event()
    cancelled.set()
    with pytest.raises(Cancelled):
        decode_video(data, source, PLAN, LIMITS, DecodeDeadline(LIMITS, cancelled))


def test_other_decoders_never_run() -> None:
    """FFmpeg decodes a little to learn about a stream, before we know what stream it is."""
    clip = encode_clip("avi", "ffvhuff")
    with av.open(io.BytesIO(clip), options=container._OPTIONS) as reader:
        assert reader.streams.video[0].codec_context.pix_fmt is None  # known once decoded
    with pytest.raises(DecodeError, match="codec is not supported"):
        probe_video(clip, LIMITS)


@pytest.mark.parametrize(
    ("promised", "clock", "rate"),
    [
        (10, (0, 1, 2), 10.0),
        (5, (0, 1, 2), 10.0),
        (None, (0, 1, 2), 10.0),
        (10, (7, 7, 7), 10.0),
        (10, None, 10.0),
        (None, (7, 7, 7), None),
        (0, None, None),
    ],
)
def test_a_clip_has_a_frame_rate_or_is_refused(
    promised: int | None, clock: tuple[int, ...] | None, rate: float | None
) -> None:
    """Frames that are shown at these ticks of 1/10 s."""
    average = None if promised is None else Fraction(promised)
    ticks = None if clock is None else np.array(clock)
    if rate is None:
        with pytest.raises(DecodeError, match="no frame rate"):
            probe._frame_rate(3, ticks, None, average, Fraction(1, 10))
    else:
        assert probe._frame_rate(3, ticks, None, average, Fraction(1, 10)) == rate
