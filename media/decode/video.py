"""Probes videos and decodes their planned frames: upright RGB, each resized once it is decoded.

MP4/MOV, WebM/MKV, AVI and GIF through FFmpeg (PyAV). The container is opened once to probe it and
once to decode it. The whole video is never held: memory is the encoded bytes, the frame being
decoded and the resized frames. Where the container's stamps tell its frames apart, only what the
planned frames need is decoded (`frame_selection.py`).

A container's own frame count is not believed: it may be absent (WebM, GIF) or wrong (a recording
that was cut off). :func:`probe_video` lists the packets that carry a frame and when it is shown,
without decoding them. Should the decoder yet give fewer frames than packets, :func:`decode_video`
raises :class:`FewerFrames`, and the video has to be planned once more.
"""

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from saccade.media.decode.container import DecodeDeadline, demuxed, has_stamps, opened
from saccade.media.decode.frame_selection import decode_scheduled, schedule
from saccade.media.decode.image import to_rgb
from saccade.media.decode.matroska_limits import EBML, check_matroska_elements
from saccade.media.decode.mp4_limits import check_mp4_samples
from saccade.media.decode.resize import resize
from saccade.media.errors import DecodeError, LimitError
from saccade.media.limits import MediaLimits
from saccade.media.planning.frame_times import frame_times
from saccade.media.planning.plan import VideoPlan, VideoSource
from saccade.media.types import CHANNELS, NO_STAMP, PACKET, Packets, Pixels

# A container's average rate is kept unless its timestamps differ from it by more than this.
_RATE_TOLERANCE = 0.05

# Samples that a file may announce, to one frame that it may have: sound has samples too.
_SAMPLES_PER_FRAME = 2

_SMALL = 16  # pixels along a copy that is made for its side data alone

_ENDS_EARLY = "the video is damaged: its frames end before they should"

Display = tuple[bool, bool, bool]
"""How to make a frame upright: transpose first, then mirror in x, then in y."""


class FewerFrames(DecodeError):
    """The decoder gives fewer frames than there are packets.

    Attributes:
        source: what the video is after all.
    """

    def __init__(self, source: VideoSource) -> None:
        super().__init__(_ENDS_EARLY)
        self.source = source


def probe_video(data: bytes, limits: MediaLimits) -> VideoSource:
    """Upright size, frame count, rate, frame times and packets of a video; decodes its first frame.

    Raises:
        DecodeError: not a supported video, or without frames.
        LimitError: frames too large, too many, or too long a video.
    """
    max_samples = _SAMPLES_PER_FRAME * limits.max_source_frames
    if data.startswith(EBML):
        check_matroska_elements(data, max_samples)
    else:
        check_mp4_samples(data, max_samples)
    with opened(data, limits) as (container, stream):
        first, packets, rate = _read_packets(
            demuxed(container, stream, DecodeDeadline(limits)),
            stream,
            has_stamps(container, stream),
            limits.max_source_frames,
        )
        width, height = first.width, first.height
        sideways = _display(first)[0]
        if sideways:
            width, height = height, width
        time_base = stream.time_base
    stamps = packets["stamp"][packets["shown"]]
    source = VideoSource(width, height, len(stamps), rate, sideways=sideways, packets=packets)
    seconds = source.frames / source.fps
    if seconds > limits.max_video_seconds:
        raise LimitError(
            f"the video lasts {seconds:.1f} s; the limit is {limits.max_video_seconds:g} s"
        )
    return replace(source, times=frame_times(_known(stamps), time_base, rate))


def decode_video(
    data: bytes,
    source: VideoSource,
    plan: VideoPlan,
    limits: MediaLimits,
    deadline: DecodeDeadline | None = None,
    threads: int = 1,
) -> Pixels:
    """Decodes the planned frames of a video.

    Args:
        source: from :func:`probe_video`, or from :class:`FewerFrames`.
        deadline: None for one that begins now.
        threads: of the decoder, beside the calling thread's own work.

    Returns:
        uint8 RGB [frames, height, width, 3].

    Raises:
        FewerFrames: to be planned again.
        DecodeError: damaged. LimitError: as probe_video, or past the deadline. Cancelled.
    """
    deadline = deadline or DecodeDeadline(limits)
    frames = np.empty((len(plan.frame_indices), plan.height, plan.width, CHANNELS), np.uint8)
    todo = schedule(source.packets, plan.frame_indices) if source.packets is not None else None
    if todo is not None:
        with opened(data, limits, threads) as (container, stream):
            packets = demuxed(container, stream, deadline)
            decoded = decode_scheduled(stream.codec_context, packets, todo.uses)
            if _fill_scheduled(frames, decoded, plan, todo.stamps):
                return frames
    with opened(data, limits, threads) as (container, stream):
        stamps = _fill(frames, _decoded(demuxed(container, stream, deadline)), plan)
        time_base = stream.time_base if has_stamps(container, stream) else None
    if stamps is None:
        return frames
    if not stamps:
        raise DecodeError(_ENDS_EARLY)
    times = frame_times(stamps, time_base, source.fps)
    raise FewerFrames(replace(source, frames=len(stamps), times=times, packets=None))


def _fill_scheduled(
    frames: Pixels, decoded: Iterator[VideoFrame], plan: VideoPlan, stamps: Sequence[int]
) -> bool:
    """Fills ``frames`` by the stamps of the planned ones; False where some are missing."""
    slots: dict[int, list[int]] = {}
    stamp_of = dict(zip(sorted(set(plan.frame_indices)), stamps, strict=True))
    for slot, index in enumerate(plan.frame_indices):
        slots.setdefault(stamp_of[index], []).append(slot)
    display = None
    for frame in decoded:
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


def _decoded(packets: Iterable["Packet[VideoStream]"]) -> Iterator[VideoFrame]:
    for packet in packets:
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
    """How a video is shown, from its first frame.

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


def _read_packets(
    packets: Iterable["Packet[VideoStream]"], stream: VideoStream, stamped: bool, max_frames: int
) -> tuple[VideoFrame, Packets, float]:
    """(first frame, packets that carry data, frames a second); only the first frame is decoded."""
    frame: VideoFrame | None = None
    # Of all packets, a few bytes each.
    stamps, keyframes, visible = array("q"), bytearray(), bytearray()
    count = 0
    first, last = math.inf, -math.inf
    for packet in packets:
        if frame is None:
            frame = next(iter(packet.decode()), None)
        if packet.size == 0:  # the end
            continue
        stamp, shown = packet.pts, not packet.is_discard  # by an edit list
        trusted = NO_STAMP if stamp is None or not stamped else stamp
        stamps.append(trusted)
        keyframes.append(packet.is_keyframe)
        visible.append(shown)
        if not shown:
            continue
        count += 1
        if count > max_frames:
            raise LimitError(f"the video has more than {max_frames} frames")
        tick = packet.dts if stamp is None else stamp
        if tick is not None:
            first, last = min(first, tick), max(last, tick)
    if frame is None or not count:
        raise DecodeError("the video has no frames")
    seconds = (last - first) * float(stream.time_base or 0) if last > first else 0.0
    listed = np.empty(len(stamps), PACKET)
    listed["stamp"] = stamps
    listed["keyframe"] = np.frombuffer(keyframes, np.bool_)
    listed["shown"] = np.frombuffer(visible, np.bool_)
    return frame, listed, _frame_rate(stream, count, seconds)


def _frame_rate(stream: VideoStream, frames: int, seconds: float) -> float:
    """Frames a second, given the time from the first to the last."""
    promised = float(stream.average_rate or 0)
    if seconds <= 0:
        if promised <= 0:
            raise DecodeError("the video has no frame rate")
        return promised
    measured = (frames - 1) / seconds
    if promised > 0 and abs(measured / promised - 1) <= _RATE_TOLERANCE:
        return promised
    return measured


def _known(stamps: npt.NDArray[np.int64]) -> list[int | None]:
    return [None if stamp == NO_STAMP else stamp for stamp in stamps.tolist()]
