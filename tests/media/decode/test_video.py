"""Clips: the right frames, upright, at the planned size; counts are counted, not believed."""

import io
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import av
import numpy as np
import pytest
from hidden_frames import with_hidden_frames
from loading import load_video
from media_samples import STAMPED
from PIL import Image

from saccade.media.controls import VideoControls
from saccade.media.decode.container import Cancelled
from saccade.media.decode.probe import probe_video
from saccade.media.errors import DecodeError, LimitError, MediaError
from saccade.media.limits import MediaLimits
from saccade.media.planning.plan import VideoPlan, VideoSource, VisionGeometry

LIMITS = MediaLimits()
GEOMETRY = VisionGeometry()
Encode = Callable[..., bytes]
Read = Callable[[np.ndarray], int]

CONTAINERS = [*STAMPED, ("avi", "mpeg4"), ("avi", "mjpeg")]


def numbers(data: bytes, read: Read, **controls: Any) -> tuple[list[int], VideoPlan]:
    frames, plan = load_video(data, VideoControls(**controls), LIMITS)
    assert frames.dtype == np.uint8
    assert frames.shape == (len(plan.frame_indices), plan.height, plan.width, 3)
    return [read(frame) for frame in frames], plan


@pytest.mark.parametrize(("container", "codec"), CONTAINERS)
def test_sampled_frames_are_the_planned_ones(
    container: str, codec: str, encode_clip: Encode, shown_number: Read
) -> None:
    data = encode_clip(container, codec)
    assert probe_video(data, LIMITS) == VideoSource(192, 128, 40, 25.0)
    shown, plan = numbers(data, shown_number, fps=10.0)
    assert len(shown) == 16
    assert shown == list(plan.frame_indices)
    every, _ = numbers(data, shown_number, nframes=40)
    assert every == list(range(40))


def test_start_and_end_choose_frames_by_content(encode_clip: Encode, shown_number: Read) -> None:
    data = encode_clip(frames=200, rate=25)
    for controls, first, last in (
        ({"video_start": 1.0}, 25, 199),
        ({"video_start": 1.01}, 26, 199),
        ({"video_end": 2.0}, 0, 50),
        ({"video_end": 1.99}, 0, 49),
        ({"video_start": 2.0, "video_end": 4.0}, 50, 100),
        ({"video_start": 7.9, "video_end": 1e6}, 198, 199),
    ):
        shown, plan = numbers(data, shown_number, fps=5.0, **controls)
        assert (shown[0], shown[-1]) == (first, last), controls
        assert shown == list(plan.frame_indices)
        assert plan.frame_times[0] == first / 25
        assert plan.sampled_fps == len(shown) / (last - first + 1) * 25


@pytest.mark.parametrize(
    ("container", "codec"), [("mp4", "libx264"), ("webm", "libvpx-vp9"), ("avi", "mjpeg")]
)
def test_frames_equal_those_of_the_reference(
    container: str,
    codec: str,
    encode_clip: Encode,
    reference: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """The reference reads with decord. Another FFmpeg turns YUV to RGB a little differently
    (measured: 9 levels at most, 0.2 on average on noise), so pixels are close, not equal."""
    data = encode_clip(container, codec, frames=60, rate=30)
    file, output = tmp_path / f"clip.{container}", tmp_path / "answer.npz"
    file.write_bytes(data)
    for controls in ({}, {"nframes": 10, "max_pixels": 150_000}, {"fps": 4.0, "video_start": 0.5}):
        answer = reference("fetch_video", video=str(file), controls=controls, output=str(output))
        frames, plan = load_video(data, VideoControls(**controls), LIMITS)
        assert list(plan.frame_indices) == answer["indices"]
        assert plan.source_fps == answer["fps"]
        assert plan.sampled_fps == answer["sampled_fps"]
        with np.load(output) as arrays:
            theirs = arrays["frames"].transpose(0, 2, 3, 1)
        assert frames.shape == theirs.shape
        difference = np.abs(frames - theirs)
        assert difference.mean() < 0.5
        assert difference.max() <= 12


def test_a_container_without_a_count_is_counted(encode_clip: Encode, shown_number: Read) -> None:
    data = encode_clip("webm", "libvpx-vp9", live="1")
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.video[0].frames == 0
        assert container.duration is None
    shown, plan = numbers(data, shown_number, nframes=8)
    assert plan.source_frames == 40
    assert shown == list(plan.frame_indices)
    assert shown[-1] == 39


def test_packets_that_show_nothing_are_found_out(encode_clip: Encode, shown_number: Read) -> None:
    """VP8 has packets that are decoded and never shown."""
    data = with_hidden_frames(encode_clip("webm", "libvpx", frames=30), 10)
    assert probe_video(data, LIMITS).frames == 30
    shown, plan = numbers(data, shown_number, nframes=6)
    assert plan.source_frames == 30
    assert shown == list(plan.frame_indices) == [0, 6, 12, 17, 23, 29]


def test_uneven_frames_get_their_true_average_rate(encode_clip: Encode) -> None:
    """A recorder's WebM that calls itself 25 a second but has one frame every 100 ms."""
    data = encode_clip("webm", "libvpx", frames=20, times=[100 * n for n in range(20)])
    source = probe_video(data, LIMITS)
    assert source.frames == 20
    assert source.fps == pytest.approx(10.0, rel=0.05)


def with_matrix(data: bytes, a: int, b: int, c: int, d: int) -> bytes:
    """Puts a display matrix into the track header of an MP4 (version 0 box)."""
    start = data.index(b"tkhd") + 4
    assert data[start] == 0
    start += 40
    matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    return data[:start] + matrix + data[start + 36 :]


@pytest.mark.parametrize(
    ("matrix", "restore"),
    [
        ((1, 0, 0, 1), lambda frame: frame),
        ((0, 1, -1, 0), lambda frame: np.rot90(frame)),  # shown a quarter turn clockwise
        ((-1, 0, 0, -1), lambda frame: np.rot90(frame, 2)),
        ((0, -1, 1, 0), lambda frame: np.rot90(frame, -1)),
        ((-1, 0, 0, 1), lambda frame: frame[:, ::-1]),  # a mirrored selfie
        ((1, 0, 0, -1), lambda frame: frame[::-1]),
    ],
)
def test_rotated_recordings_are_upright(
    matrix: tuple[int, int, int, int],
    restore: Callable[[np.ndarray], np.ndarray],
    encode_clip: Encode,
    shown_number: Read,
) -> None:
    data = with_matrix(encode_clip(), *matrix)
    source = probe_video(data, LIMITS)
    sideways = matrix[0] == 0
    assert (source.width, source.height) == ((128, 192) if sideways else (192, 128))
    size = {"resized_width": 196, "resized_height": 308}
    frames, plan = load_video(data, VideoControls(nframes=8, **size), LIMITS)
    assert frames.shape == (8, 308, 196, 3)
    assert [shown_number(restore(frame)) for frame in frames] == list(plan.frame_indices)


def test_rotation_set_by_the_muxer(shown_number: Read) -> None:
    """FFmpeg's own idea of a rotated file agrees with ours."""
    output = io.BytesIO()
    upright = np.zeros((128, 64, 3), np.uint8)
    upright[:64, :32] = 255
    with av.open(output, "w", format="mp4") as writer:
        stream = writer.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        stream.set_display_rotation(90)
        for _ in range(4):
            stored = np.ascontiguousarray(np.rot90(upright, -1))
            writer.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        writer.mux(stream.encode())
    size = {"resized_width": 56, "resized_height": 112}
    frames, _ = load_video(output.getvalue(), VideoControls(nframes=2, **size), LIMITS)
    assert frames[0, :50, :24].mean() > 240
    assert frames[0, 60:].mean() < 15
    assert frames[0, :, 32:].mean() < 15


def test_transparent_gif_is_on_white() -> None:
    pictures = []
    for left in (2, 6):
        picture = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
        picture.paste((200, 0, 0, 255), (left, 2, left + 30, 60))
        pictures.append(picture)
    output = io.BytesIO()
    pictures[0].save(
        output, "GIF", save_all=True, append_images=pictures[1:], duration=100, disposal=2
    )
    frames, plan = load_video(output.getvalue(), VideoControls(nframes=2), LIMITS)
    assert plan.source_frames == 2
    assert frames[0, :, -10:].min() > 245
    middle = frames.shape[1] // 2
    assert np.abs(frames[0, middle, frames.shape[2] // 4].astype(int) - (200, 0, 0)).max() < 12


def test_limits_hold(encode_clip: Encode) -> None:
    data = encode_clip()
    for limits in (
        replace(LIMITS, max_frame_pixels=192 * 128 - 1),
        replace(LIMITS, max_video_seconds=1.5),
        replace(LIMITS, max_source_frames=39),
    ):
        with pytest.raises(LimitError):
            probe_video(data, limits)
    exact = MediaLimits(max_frame_pixels=192 * 128, max_video_seconds=1.6, max_source_frames=40)
    assert probe_video(data, exact).frames == 40


def test_cancelling_stops_the_decode(encode_clip: Encode) -> None:
    cancelled = Event()
    cancelled.set()
    with pytest.raises(Cancelled):
        load_video(encode_clip(), VideoControls(), LIMITS, cancelled)


def refused(data: bytes) -> MediaError:
    with pytest.raises(DecodeError) as caught:
        load_video(data, VideoControls(), LIMITS)
    for leak in ("0x", "<_io", "BytesIO", "avcodec", "Errno", "<none>"):
        assert leak not in caught.value.message
    return caught.value


def test_other_bytes_are_refused(encode_clip: Encode) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (64, 64)).save(picture, "JPEG")
    whole = encode_clip()
    for data in (
        b"",
        b"\0" * 10_000,
        b"not a video at all" * 100,
        picture.getvalue(),
        whole[: len(whole) // 2],
        whole[:40],
        encode_clip("ivf", "libvpx"),  # a video, but of a container that is not served
    ):
        refused(data)


def test_playlists_are_not_followed() -> None:
    """FFmpeg would open what a playlist names."""
    refused(b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\npart-0.ts\n#EXT-X-ENDLIST\n")


def test_sound_alone_is_refused() -> None:
    output = io.BytesIO()
    with av.open(output, "w", format="mp4") as writer:
        stream = writer.add_stream("aac", rate=48_000)
        for _ in range(10):
            sound = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            sound.sample_rate = 48_000
            writer.mux(stream.encode(sound))
        writer.mux(stream.encode())
    assert "no video" in refused(output.getvalue()).message


def test_one_frame_is_too_short(encode_clip: Encode) -> None:
    assert "1 frame" in refused(encode_clip(frames=1)).message
