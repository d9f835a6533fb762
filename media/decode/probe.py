"""Finds out what a video is: size, frames, their times and packets. Decodes its first frame only.

A container's own frame count is not believed: it may be absent (WebM, GIF) or wrong (a recording
that was cut off). The packets are listed instead, and those counted that give a frame: not what an
edit list cuts off, nor what a cut has left without the frames that it refers to, nor VP8's frames
that are never shown.
"""

from array import array
from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from saccade.media.decode.container import DecodeDeadline, opened
from saccade.media.decode.frame_selection import damage
from saccade.media.decode.matroska_limits import EBML, check_matroska_elements
from saccade.media.decode.mp4_limits import check_mp4_samples
from saccade.media.decode.video import FrameConverter
from saccade.media.errors import DecodeError, LimitError
from saccade.media.limits import MediaLimits
from saccade.media.planning.frame_times import frame_times
from saccade.media.planning.plan import VideoSource
from saccade.media.types import NO_STAMP, PACKET

# A container's average rate is kept unless its timestamps differ from it by more than this.
_RATE_TOLERANCE = 0.05

# Samples that a file may announce, to one frame that it may have: sound has samples too.
_SAMPLES_PER_FRAME = 2

_VOP = b"\0\0\1\xb6"  # begins a frame of MPEG-4 part 2
_EMPTY_VOP = 7  # bytes: too few for the blocks of a frame, so it says that there is none
_MAX_EMPTY_VOP = 19  # likewise, as FFmpeg has it where the packet before held two frames
_SHORTEST_DELAY, _USUAL_DELAY = 1, 10  # hundredths: browsers show such GIF frames for so long

Listed = npt.NDArray[np.int64]
"""[packets, (stamp, decoding stamp, duration, keyframe, frames that it gives)]."""


def probe_video(data: bytes, limits: MediaLimits) -> VideoSource:
    """Upright size, frame count, rate, frame times and packets of a video.

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
        converter, name = FrameConverter(stream), container.format.name
        packets = DecodeDeadline(limits).demuxed(container, stream)
        first, refused, listed = _list_packets(packets, stream, limits.max_source_frames)
        width, height = first.width, first.height
        sideways = converter.is_sideways(first)
        ratio = float(stream.sample_aspect_ratio or 1)
        promised, time_base = stream.average_rate, stream.time_base
        codec = stream.codec_context.name
    if sideways:
        width, height, ratio = height, width, 1 / ratio
    stamp, _, _, keyframe, given = listed.T
    # Two frames in a packet are meant where the next holds none; else they are what damage left.
    given[(given > 1) & np.append(given[1:], 1).astype(bool)] = 1
    # AVI has no stamps. FFmpeg makes them up: wrong ones for codecs whose frames it cannot tell the
    # order of without decoding them, and where packets hold several frames.
    if given.max() > 1 or (name == "avi" and codec in ("h264", "hevc")):
        stamp[:] = NO_STAMP
    damaged = 0
    if first.pts in stamp[given > 0]:
        damaged = int(given[stamp < first.pts].sum()) if refused else 0
        given[stamp < first.pts] = 0
    frames = int(given.sum())
    clock, end = _clock(listed, name)
    rate = _frame_rate(frames, clock, end, promised, time_base)
    times = frame_times(clock, time_base, rate, end)
    seconds = frames / rate if times is None else times.end
    if seconds > limits.max_video_seconds:
        raise LimitError(
            f"the video lasts {seconds:.1f} s; the limit is {limits.max_video_seconds:g} s"
        )
    kept = np.empty(len(listed), PACKET)
    kept["stamp"], kept["keyframe"], kept["shown"] = stamp, keyframe, given
    return VideoSource(width, height, frames, rate, times, sideways, ratio, damaged, kept)


def _list_packets(
    packets: Iterable["Packet[VideoStream]"], stream: VideoStream, max_frames: int
) -> tuple[VideoFrame, int, Listed]:
    """(first frame that can be decoded, packets that were refused before it, packets with data)."""
    first: VideoFrame | None = None
    listed = array("q")
    codec = stream.codec_context.name
    frames = before = refused = 0
    for packet in packets:
        if first is None:
            try:
                first = next(iter(packet.decode()), None)
            except damage(codec):  # a later one will do
                refused += 1
        if packet.size == 0:  # the end
            continue
        given = 1
        if codec == "vp8":
            given = memoryview(packet)[0] >> 4 & 1  # show_frame (RFC 6386, 9.1)
        elif codec == "mpeg4":
            given = min(max(1, bytes(packet).count(_VOP)), 2)
            if packet.size <= (_MAX_EMPTY_VOP if before > 1 else _EMPTY_VOP):
                given = 0
            before = given
        if packet.is_discard:  # by an edit list
            given = 0
        stamp, decoded = (NO_STAMP if at is None else at for at in (packet.pts, packet.dts))
        listed.extend((stamp, decoded, packet.duration or 0, packet.is_keyframe, given))
        frames += given
        if frames > max_frames:
            raise LimitError(f"the video has more than {max_frames} frames")
    if first is None or not frames:
        raise DecodeError("the video has no frames that can be decoded")
    return first, refused, np.frombuffer(listed, np.int64).reshape(-1, 5).copy()


def _clock(listed: Listed, container: str) -> tuple[Listed | None, int | None]:
    """(ticks at which the frames are shown, ascending; when the last one ends), if known."""
    stamp, decoded, duration, _, given = listed.T
    frames = int(given.sum())
    if container == "gif":
        lasting = np.where(duration <= _SHORTEST_DELAY, _USUAL_DELAY, duration)
        ends = lasting.cumsum()
        return (ends - lasting)[given > 0], int(ends[-1])
    clock = np.sort(stamp[given > 0])
    if container == "avi" or clock[0] == NO_STAMP:
        # A frame is shown for each that is decoded, once the first is.
        clock = np.sort(decoded)[:frames]
        return (None, None) if clock[0] == NO_STAMP else (clock, None)
    last = int(duration[np.flatnonzero(stamp == clock[-1])[-1]])
    return clock, int(clock[-1]) + last if last > 0 else None


def _frame_rate(
    frames: int,
    clock: Listed | None,
    end: int | None,
    promised: Fraction | None,
    time_base: Fraction | None,
) -> float:
    """Frames a second: the container's average where it is true, else what the clock says."""
    span = 0 if clock is None or time_base is None else int(clock[-1] - clock[0])
    if span == 0:
        if not promised and frames > 1:
            raise DecodeError("the video has no frame rate")
        return float(promised or 1)
    assert clock is not None
    assert time_base is not None
    measured = [Fraction(frames - 1, span) / time_base]
    if end is not None:
        measured.insert(0, Fraction(frames, int(end - clock[0])) / time_base)
    if promised and any(abs(rate / promised - 1) <= _RATE_TOLERANCE for rate in measured):
        return float(promised)
    return float(measured[-1])
