"""Clips that lie, swell or break off: refused or served, in the memory set aside for them."""

import io
import time
from dataclasses import replace
from pathlib import Path
from threading import Event

import av
import numpy as np
import pytest
from hostile_child import LIMITS
from hostile_run import Outcome, run_files, served_cuts
from hostile_samples import FRAMES, encode_clip, real_clips
from hostile_videos import announcing, box, gif_of, hostile_videos, patched

from saccade.media.boxes import check_boxes
from saccade.media.controls import VideoControls
from saccade.media.errors import DecodeError, LimitError
from saccade.media.limits import MediaLimits
from saccade.media.plan import VideoPlan, VideoSource, VisionGeometry, plan_video
from saccade.media.video import _OPTIONS, Cancelled, load_video, probe_video

TOO_LARGE = {
    "avi-rate-1-by-4294967295",  # four frames in 545 years
    "gif-of-30000-frames",
    "mp4-fragment-of-50000000-samples",
    "mp4-of-170000000-samples",
    "mp4-of-50000000-samples",
    "mp4-table-longer-than-file",
}
# FFmpeg corrects or passes over what is wrong: every frame is there.
SERVED = {
    "avi-frames-of-4294967295-bytes",
    "avi-rate-0-by-0",
    "avi-rate-0-by-1",
    "avi-rate-0-by-4294967295",
    "avi-rate-1-by-0",
    "avi-rate-1-by-1",
    "avi-rate-4294967295-by-0",
    "avi-rate-4294967295-by-1",
    "avi-rate-4294967295-by-4294967295",
    "gif-of-200-large-frames",
    "mkv-frames-of-0-ns",
    "mkv-frames-of-1-ns",
    "mkv-frames-of-4294967295-ns",
    "mkv-lasting--1.0",
    "mkv-lasting--inf",
    "mkv-lasting-0.0",
    "mkv-lasting-1e+300",
    "mkv-lasting-5e-324",
    "mkv-lasting-inf",
    "mkv-lasting-nan",
    "mkv-ticks-of-0-ns",
    "mkv-ticks-of-1-ns",
    "mkv-ticks-of-16777215-ns",
    "mp4-duration-counts-2147483648",
    "mp4-duration-negative",
    "mp4-duration-of-all-frames-0",
    "mp4-frames-of-65535-squared",  # the stream itself says how large they are
    "mp4-movie-clock-of-0",
    "mp4-of-4294967295-chunks",
    "mp4-track-of-65535-squared",
}
CLIPS = hostile_videos()


def planner(source: VideoSource) -> VideoPlan:
    return plan_video(source, VideoControls(max_frames=8), VisionGeometry())


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    return run_files(CLIPS, "video", tmp_path_factory.mktemp("hostile"))


@pytest.mark.parametrize("name", CLIPS)
def test_hostile_clips(name: str, outcomes: dict[str, Outcome]) -> None:
    case = outcomes[name]
    expected = "LimitError" if name in TOO_LARGE else "served" if name in SERVED else "DecodeError"
    assert case.outcome == expected, case.message
    assert case.status == {"LimitError": 413, "served": 200, "DecodeError": 400}[expected]


@pytest.mark.parametrize("count", [0, 1])
def test_clips_of_no_frame_and_of_one(count: int, outcomes: dict[str, Outcome]) -> None:
    for container in ("mp4", "mov", "mkv", "webm", "avi", "gif"):
        name = f"{container}-of-{count}-frames"
        assert len(CLIPS[name]) > 10, name  # a container all the same
        told = outcomes[name].message
        if count:
            assert told == "the video has 1 frame(s), at least 2 are needed", name
        else:
            assert outcomes[name].outcome == "DecodeError", name


def test_clips_cut_at_every_percent(tmp_path: Path) -> None:
    for name, served in served_cuts(real_clips(), "video", tmp_path).items():
        assert 100 in served, name
        assert not served & set(range(15)), name  # two frames are more than that
        if name in ("mp4", "mov"):  # their header is at the end
            assert min(served) >= 99, name


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


def test_samples_of_sound_are_no_bomb() -> None:
    clip = sound(2)
    check_boxes(clip, most_samples=FRAMES)
    with pytest.raises(LimitError):
        check_boxes(clip, most_samples=FRAMES - 1)
    assert probe_video(clip, replace(LIMITS, max_source_frames=FRAMES)).frames == FRAMES


def test_a_bomb_cannot_pass_as_sound() -> None:
    """What makes a track sound to us must make it sound to FFmpeg."""
    bomb = announcing(50_000_000)
    track = bomb.index(b"trak") - 4
    kind = bomb.index(b"vide")
    fake = box(b"free", b"trak" + box(b"stts", b"\0\0\0\0\0\0\0\1\0\0\0\1\0\0\0\1") + b"soun")
    for disguised in (
        bomb[:kind] + b"soun" + bomb[kind + 4 :],  # then its frames do not last one tick
        bomb[: track + 8] + fake + bomb[track + 8 :],
        bomb[:track] + fake + bomb[track:],
    ):
        disguised = patched(disguised, b"stts", 8, ">II", 50_000_000, 2)
        with pytest.raises(LimitError):
            check_boxes(disguised, 10_000)


def test_samples_are_counted_where_ffmpeg_reads_them() -> None:
    bomb = announcing(50_000_000)
    header = bomb.index(b"moov") - 4
    assert bomb.index(b"mdat") < header
    moov = bomb[header:]
    long = b"\0\0\0\1moov" + (len(moov) + 8).to_bytes(8, "big") + moov[8:]
    to_the_end = b"\0\0\0\0" + moov[4:]
    for hidden in (moov, long, to_the_end):
        with pytest.raises(LimitError):
            check_boxes(bomb[:header] + hidden, 10_000)
        check_boxes(box(b"mdat", hidden), 10_000)  # but a clip may show anything
    twice = real_clips()["mp4-fragments"]
    check_boxes(twice, FRAMES)
    with pytest.raises(LimitError):
        check_boxes(twice, FRAMES - 1)


def test_a_decode_without_end_is_ended() -> None:
    clip = gif_of(2000, 1000)
    limits = MediaLimits(max_decoding_seconds=0.1)
    source = probe_video(clip, limits)
    start = time.monotonic()
    with pytest.raises(LimitError, match=r"longer than 0\.1 s"):
        load_video(clip, planner, limits, source)
    assert time.monotonic() - start < 30
    assert len(load_video(encode_clip("mp4"), planner, MediaLimits())[0]) > 0


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
        load_video(data, planner, LIMITS, source)
    cancelled = Event()
    cancelled.set()
    with pytest.raises(Cancelled):
        load_video(data, planner, LIMITS, source, cancelled)


def test_other_decoders_never_run() -> None:
    """FFmpeg decodes a little to learn about a stream, before we know what stream it is."""
    with av.open(io.BytesIO(CLIPS["avi-of-another-codec"]), options=_OPTIONS) as container:
        assert container.streams.video[0].codec_context.pix_fmt is None  # known once decoded
    with pytest.raises(DecodeError, match="codec is not supported"):
        probe_video(CLIPS["avi-of-another-codec"], LIMITS)


def test_compressed_headers_are_refused_by_name() -> None:
    with pytest.raises(DecodeError, match="compressed header"):
        probe_video(CLIPS["mp4-packed-header"], LIMITS)
