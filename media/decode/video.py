"""Encoded video -> the planned frames, upright RGB, each resized as soon as it is decoded.

MP4/MOV, WebM/MKV, AVI and GIF through FFmpeg (PyAV). The whole clip is never held: memory is the
encoded bytes, the frame being decoded and the resized frames. Where the container's stamps tell
its frames apart, only what the planned frames need is decoded (`packets.py`).

A container's own frame count is not believed: it may be absent (WebM, GIF) or wrong (a recording
that was cut off). :func:`probe_video` counts the packets that carry a frame and notes when it is
shown, without decoding them. Should the decoder yet give fewer frames than packets,
:func:`load_video` plans once more with what it gave.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from threading import Event
from typing import Any, cast

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from saccade.media.decode.frame_selection import (
    decode_scheduled,
    has_stamps,
    read_packets,
    schedule,
)
from saccade.media.decode.image import to_rgb
from saccade.media.decode.matroska_limits import check_elements
from saccade.media.decode.mp4_limits import check_boxes
from saccade.media.decode.resize import resize
from saccade.media.errors import DecodeError, LimitError, MediaError
from saccade.media.limits import MediaLimits
from saccade.media.planning.frame_times import frame_times
from saccade.media.planning.plan import VideoPlan, VideoSource
from saccade.media.types import Pixels

# Decoders, by FFmpeg's names; anything more exotic is not worth the risk.
_CODECS = frozenset(
    {
        *("av1", "libdav1d", "h263", "h264", "hevc", "vp8", "vp9", "libvpx", "libvpx-vp9"),
        *("mpeg1video", "mpeg2video", "mpeg4", "msmpeg4", "msmpeg4v2", "mjpeg", "prores"),
        *("theora", "ffv1", "gif", "png", "qtrle", "rawvideo"),
    }
)

# FFmpeg also reads playlists and scripts that name other files and URLs: only these are opened.
# To find out about a stream it may decode: with these decoders only.
_OPTIONS = {
    "format_whitelist": "mov,matroska,avi,gif",
    "protocol_whitelist": "none",
    "codec_whitelist": ",".join(sorted(_CODECS)),
}

# A container's average rate is kept unless its timestamps differ from it by more than this.
_RATE_TOLERANCE = 0.05

# Samples that a file may announce, to one frame that it may have: sound has samples too.
_SAMPLES_PER_FRAME = 2

_SMALL = 16  # pixels along a copy that is made for its side data alone

Display = tuple[bool, bool, bool]
"""How to make a frame upright: transpose first, then mirror in x, then in y."""


class Cancelled(Exception):
    """The caller no longer wants the clip."""


class _Watch:
    """Ends a decode that nobody waits for any more, or that takes too long."""

    def __init__(self, limits: MediaLimits, cancelled: Event | None = None) -> None:
        self._cancelled = cancelled
        self._seconds = limits.max_decoding_seconds
        self._end = time.monotonic() + self._seconds

    def __call__(self) -> None:
        if self._cancelled is not None and self._cancelled.is_set():
            raise Cancelled
        if time.monotonic() > self._end:
            raise LimitError(f"the video takes longer than {self._seconds:g} s to decode")


def probe_video(data: bytes, limits: MediaLimits) -> VideoSource:
    """Upright size, frame count, rate and frame times of a clip; decodes its first frame only.

    Raises:
        DecodeError: not a supported video, or without frames.
        LimitError: frames too large, too many, or too long a clip.
    """
    most = _SAMPLES_PER_FRAME * limits.max_source_frames
    check_boxes(data, most)
    check_elements(data, most)
    with _opened(data, limits) as (container, stream):
        frame = next(_decoded(container, stream, _Watch(limits)), None)
        if frame is None:
            raise DecodeError("the video has no frames")
        width, height = frame.width, frame.height
        sideways = _display(frame)[0]
        if sideways:
            width, height = height, width
    with _opened(data, limits) as (container, stream):
        stamps, rate = _read_stamps(container, stream, limits.max_source_frames)
        time_base = stream.time_base
    source = VideoSource(width, height, len(stamps), rate, sideways=sideways)
    limits.check_source(source)
    return replace(source, times=frame_times(stamps, time_base, rate))


def load_video(
    data: bytes,
    planner: Callable[[VideoSource], VideoPlan],
    limits: MediaLimits,
    source: VideoSource | None = None,
    cancelled: Event | None = None,
    threads: int = 1,
) -> tuple[Pixels, VideoPlan]:
    """Decodes the planned frames of a clip.

    Args:
        planner: source -> plan; called again should the decoder give fewer frames than promised.
        source: what :func:`probe_video` said; probed here when absent.
        cancelled: once set, decoding stops with :class:`Cancelled`.
        threads: of the decoder, beside the calling thread's own work.

    Returns:
        uint8 RGB [frames, height, width, 3] and the plan it follows.

    Raises:
        DecodeError: broken or frameless. LimitError: as probe_video, and when the clip takes
            longer than ``max_decoding_seconds``. Also what ``planner`` raises.
    """
    source = source or probe_video(data, limits)
    watch = _Watch(limits, cancelled)
    for _ in range(2):
        plan = planner(source)
        frames = np.empty((len(plan.frame_indices), plan.height, plan.width, 3), dtype=np.uint8)
        if _fill_scheduled(frames, data, limits, threads, plan, watch):
            return frames, plan
        with _opened(data, limits, threads) as (container, stream):
            stamps = _fill(frames, _decoded(container, stream, watch), plan)
            time_base = stream.time_base if has_stamps(container, stream) else None
        if stamps is None:
            return frames, plan
        if not stamps:
            break
        times = frame_times(stamps, time_base, source.fps)
        source = replace(source, frames=len(stamps), times=times)
    raise DecodeError("the video is damaged: its frames end before they should")


def _fill_scheduled(
    frames: Pixels,
    data: bytes,
    limits: MediaLimits,
    threads: int,
    plan: VideoPlan,
    watch: _Watch,
) -> bool:
    """Fills ``frames``, decoding no more than they need; False where stamps are no help."""
    with _opened(data, limits) as (container, stream):
        todo = schedule(read_packets(container, stream), plan.frame_indices)
    if todo is None:
        return False
    slots: dict[int, list[int]] = {}
    ranks = {index: rank for rank, index in enumerate(sorted(set(plan.frame_indices)))}
    for slot, index in enumerate(plan.frame_indices):
        slots.setdefault(todo.stamps[ranks[index]], []).append(slot)
    with _opened(data, limits, threads) as (container, stream):
        display = None
        for frame in decode_scheduled(container, stream, todo.uses, watch):
            display = display or _display(frame)
            if frame.pts in slots:
                pixels = _upright_rgb(frame, display)
                frames[slots.pop(frame.pts)] = resize(pixels, plan.height, plan.width)
            if not slots:
                return True
    return False


def _fill(
    frames: Pixels, decoded: Iterator[VideoFrame], plan: VideoPlan
) -> list[int | None] | None:
    """Fills ``frames``; None, or the stamps of all source frames when they did not suffice."""
    slot = 0
    stamps: list[int | None] = []
    display = None
    for index, frame in enumerate(decoded):
        display = display or _display(frame)
        # Rounding never repeats an index in practice; if it did, the frame would be shown twice.
        while slot < len(frames) and plan.frame_indices[slot] == index:
            frames[slot] = resize(_upright_rgb(frame, display), plan.height, plan.width)
            slot += 1
        if slot == len(frames):
            return None
        stamps.append(frame.pts)
    return stamps


def _decoded(container: InputContainer, stream: VideoStream, watch: _Watch) -> Iterator[VideoFrame]:
    """Every frame; packets that give none are watched too."""
    for packet in container.demux(stream):
        watch()
        yield from packet.decode()


def _upright_rgb(frame: VideoFrame, display: Display) -> Pixels:
    if any(component.is_alpha for component in frame.format.components):
        pixels = to_rgb(Image.fromarray(frame.to_ndarray(format="rgba"), "RGBA"))
    else:
        pixels = cast(Pixels, frame.to_ndarray(format="rgb24"))
    transposed, mirrored, upside_down = display
    if transposed:
        pixels = pixels.transpose(1, 0, 2)
    return pixels[:: -1 if upside_down else 1, :: -1 if mirrored else 1]


def _display(frame: VideoFrame) -> Display:
    """How a clip is shown, from its first frame.

    Asked of a small copy: PyAV ties a frame and its side data in a circle, so that its memory stays
    until Python looks for circles.

    Phones record sideways and put a 3 x 3 matrix in the file: a point (x, y) is shown at
    (a x + c y, b x + d y), up to a shift (ISO/IEC 14496-12, track header box).
    """
    small = frame.reformat(width=_SMALL, height=_SMALL)
    data = cast(Any, small.side_data).get(SideDataType.DISPLAYMATRIX)
    if data is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].astype(int)
    if abs(b) > abs(a):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def _read_stamps(
    container: InputContainer, stream: VideoStream, most: int
) -> tuple[list[int | None], float]:
    """(when each frame is shown, frames a second), from the packets alone."""
    stamped = has_stamps(container, stream)
    stamps: list[int | None] = []
    first, last = math.inf, -math.inf
    for packet in container.demux(stream):
        if packet.size == 0 or packet.is_discard:  # the flush packet; what an edit list cuts off
            continue
        stamps.append(packet.pts if stamped else None)
        if len(stamps) > most:
            raise LimitError(f"the video has more than {most} frames")
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is not None:
            first, last = min(first, stamp), max(last, stamp)
    if not stamps:
        raise DecodeError("the video has no frames")
    promised = float(stream.average_rate or 0)
    seconds = (last - first) * float(stream.time_base or 0) if last > first else 0.0
    if seconds <= 0:
        if promised <= 0:
            raise DecodeError("the video has no frame rate")
        return stamps, promised
    measured = (len(stamps) - 1) / seconds
    if promised > 0 and abs(measured / promised - 1) <= _RATE_TOLERANCE:
        return stamps, promised
    return stamps, measured


@contextlib.contextmanager
def _opened(
    data: bytes, limits: MediaLimits, threads: int = 1
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its video stream; FFmpeg's errors leave as DecodeError."""
    if not data:
        raise DecodeError("the video is empty")
    # A stream may change its size on the way: the decoder then refuses for us.
    most = {"max_pixels": str(limits.max_frame_pixels)}
    options = _OPTIONS | most  # those of the decoders that look into the stream are among them
    try:
        with av.open(BytesIO(data), mode="r", options=options) as container:
            stream = next(iter(container.streams.video), None)
            if stream is None:
                raise DecodeError("the file has no video stream")
            context = stream.codec_context
            # FFmpeg makes no context for a codec that it does not know either.
            if context is None or context.name not in _CODECS:
                raise DecodeError("the video's codec is not supported")
            if context.width * context.height > limits.max_frame_pixels:
                raise LimitError(
                    f"the video's frames have {context.width} x {context.height} pixels; "
                    f"the limit is {limits.max_frame_pixels}"
                )
            context.options = most
            context.thread_count = threads
            context.thread_type = "AUTO"  # by frames, which nearly every codec can
            yield container, stream
    except (MediaError, Cancelled):
        raise
    except (av.error.FFmpegError, ValueError, EOFError, IndexError) as error:
        raise DecodeError("not a supported video, or a damaged one") from error
