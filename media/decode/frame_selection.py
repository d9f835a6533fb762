"""Selects the packets that have to be decoded for some frames of a video.

A frame needs the keyframe before it and what lies between, but neither the rest of its group of
pictures (GOP) nor groups without a wanted frame. Frames that no other refers to need not be decoded
for another's sake; the decoder knows which they are, once it is told that one is not wanted.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import av
import numpy as np
from av.packet import Packet, PacketSideData, PktSideDataT
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from saccade.media.types import NO_STAMP, Packets

Use = Literal["skip", "refer", "show"]
"""What to do with a packet: nothing, decode it if others refer to it, decode it for its frame."""
_SKIP_FRAME: dict[Use, Literal["ALL", "NONREF", "DEFAULT"]] = {
    "skip": "ALL",
    "refer": "NONREF",
    "show": "DEFAULT",
}

# What decoders raise at a damaged packet; many of them just -1, which is "not permitted".
_DAMAGE = (
    *(av.error.InvalidDataError, av.error.EOFError, av.error.PatchWelcomeError),
    *(av.error.PermissionError, av.error.ExternalError),
)


def damage(codec: str) -> tuple[type[Exception], ...]:
    """What the decoder of this name raises at a damaged packet.

    An invalid argument is a frame of more pixels than are allowed, but of raw video one cut short.
    """
    return (*_DAMAGE, av.error.ArgumentError) if codec == "rawvideo" else _DAMAGE


# What a packet changes for all behind it: a palette, or the headers where two videos were joined.
_STATE: tuple[PktSideDataT, ...] = ("palette", "new_extradata", "param_change")
# Codecs whose headers may stand before any keyframe, once: each is read, if not decoded.
_HEADERS_INSIDE = ("h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vc1")


@dataclass(frozen=True)
class Schedule:
    """The use of every packet, and the stamps of the wanted frames in order."""

    uses: Sequence[Use]
    stamps: Sequence[int]


def schedule(packets: Packets, indices: Collection[int]) -> Schedule | None:
    """How to get these frames, counted in the order in which they are shown.

    Returns:
        None when the stamps do not tell which packet carries which frame: the video then has to be
        decoded from its beginning.
    """
    stamps = packets["stamp"]
    shown = np.sort(stamps[packets["shown"]])
    if max(indices, default=0) >= len(shown) or shown[0] == NO_STAMP or not np.diff(shown).all():
        return None
    wanted = shown[sorted(set(indices))]
    is_wanted = np.isin(stamps, wanted)
    starts = np.flatnonzero(packets["keyframe"])  # of groups of pictures
    if not len(starts) or starts[0] != 0:
        starts = np.insert(starts, 0, 0)
    groups = np.searchsorted(starts, np.arange(len(packets)), "right") - 1
    needed = np.full(len(starts), -1)  # the last packet of each group that has to be decoded
    for position in np.flatnonzero(is_wanted):
        group = groups[position]
        needed[group] = position
        # Shown before its keyframe: it may refer to the group before.
        if group and stamps[position] < stamps[starts[group]]:
            needed[group - 1] = starts[group] - 1
    beyond = np.arange(len(packets)) > needed[groups]
    uses = np.where(beyond, "skip", np.where(is_wanted, "show", "refer"))
    return Schedule(uses.tolist(), wanted.tolist())


def decoded_frames(
    context: VideoCodecContext,
    packets: Iterable["Packet[VideoStream]"],
    uses: Sequence[Use] | None = None,
) -> Iterator[VideoFrame | None]:
    """The frames that the decoder gives, wanted ones and others, in the order they are shown.

    Args:
        packets: of the stream, as demuxed; ``uses``: of those that carry data. None: show them all.

    Yields:
        None for a packet that the decoder refuses as damaged.
    """
    inside = context.name in _HEADERS_INSIDE and context.codec_tag not in ("avc1", "hvc1")
    position, fed = 0, False
    kept: dict[PktSideDataT, PacketSideData] = {}
    for packet in packets:
        if not packet.size:
            continue
        use = "show" if uses is None else uses[position] if position < len(uses) else "skip"
        position += 1
        kept |= {kind: packet.get_sidedata(kind) for kind in _STATE if packet.has_sidedata(kind)}
        if use == "skip":
            if fed:  # what the decoder still holds back of this group
                yield from _given(context, None)
                context.flush_buffers()
            fed = inside and packet.is_keyframe
            if not fed:
                continue
        else:
            fed = True
            for data in kept.values():
                packet.set_sidedata(data)
            kept = {}
        context.skip_frame = _SKIP_FRAME[use]
        yield from _given(context, packet)
    if fed:
        yield from _given(context, None)
        context.flush_buffers()


def _given(
    context: VideoCodecContext, packet: "Packet[VideoStream] | None"
) -> Sequence[VideoFrame | None]:
    try:
        return context.decode(packet)
    except damage(context.name):
        return (None,)
