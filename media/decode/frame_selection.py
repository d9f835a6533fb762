"""Which packets of a clip have to be decoded for some of its frames, and which can be left out.

A frame needs the keyframe before it and what lies between, but neither the rest of its group of
pictures nor groups without a wanted frame. Frames that no other refers to need not be decoded for
another's sake; the decoder knows which they are, once it is told that one is not wanted.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

Use = Literal["skip", "refer", "show"]
"""What to do with a packet: nothing, decode it if others refer to it, decode it for its frame."""


@dataclass(frozen=True)
class PacketInfo:
    """A packet as the container lists it, in decoding order."""

    stamp: int | None  # when its frame is shown, in the stream's units
    keyframe: bool
    shown: bool  # False: an edit list cuts its frame off


@dataclass(frozen=True)
class Schedule:
    """The use of every packet, and the stamps of the wanted frames in order."""

    uses: tuple[Use, ...]
    stamps: tuple[int, ...]


def has_stamps(container: InputContainer, stream: VideoStream) -> bool:
    """Whether the stamps of packets can be believed.

    AVI has none and FFmpeg makes them up: wrong ones for codecs whose frames it cannot tell the
    order of without decoding them.
    """
    return container.format.name != "avi" or stream.codec_context.name not in ("h264", "hevc")


def read_packets(container: InputContainer, stream: VideoStream) -> list[PacketInfo]:
    """Every packet of the stream that carries data. Decodes nothing."""
    stamped = has_stamps(container, stream)
    return [
        PacketInfo(packet.pts if stamped else None, packet.is_keyframe, not packet.is_discard)
        for packet in container.demux(stream)
        if packet.size
    ]


def schedule(packets: Sequence[PacketInfo], indices: Collection[int]) -> Schedule | None:
    """How to get these frames, counted in the order in which they are shown.

    Returns:
        None when the stamps do not tell which packet carries which frame: the clip then has to be
        decoded from its beginning.
    """
    stamps = sorted(p.stamp for p in packets if p.shown and p.stamp is not None)
    shown = sum(packet.shown for packet in packets)
    if not len(set(stamps)) == len(stamps) == shown or max(indices, default=0) >= shown:
        return None
    wanted = {stamps[index] for index in indices}
    groups = _groups(packets)
    needed = [-1] * len(groups)  # the last packet of each group that has to be decoded
    for number, (start, stop) in enumerate(groups):
        stamps_wanted = [i for i in range(start, stop) if packets[i].stamp in wanted]
        if not stamps_wanted:
            continue
        needed[number] = max(needed[number], stamps_wanted[-1])
        first = packets[start].stamp
        # Shown before its keyframe: it may refer to the group before.
        if number and any(_before(packets[i].stamp, first) for i in stamps_wanted):
            needed[number - 1] = groups[number - 1][1] - 1
    uses: list[Use] = []
    for (start, stop), last in zip(groups, needed, strict=True):
        for i in range(start, stop):
            uses.append("skip" if i > last else "show" if packets[i].stamp in wanted else "refer")
    return Schedule(tuple(uses), tuple(sorted(wanted)))


def decode_scheduled(
    container: InputContainer,
    stream: VideoStream,
    uses: Sequence[Use],
    proceed: Callable[[], None] = lambda: None,
) -> Iterator[VideoFrame]:
    """The frames that the decoder gives, wanted ones and others, in the order they are shown.

    Args:
        proceed: called before every packet, which may give no frame; may raise.
    """
    context = stream.codec_context
    position, fed = 0, False
    for packet in container.demux(stream):
        proceed()
        if not packet.size:
            continue
        use = uses[position] if position < len(uses) else "skip"
        position += 1
        if use == "skip":
            if fed:  # what the decoder still holds back of this group
                yield from _rest(context)
                fed = False
            continue
        context.skip_frame = "DEFAULT" if use == "show" else "NONREF"
        fed = True
        yield from packet.decode()
    if fed:
        yield from _rest(context)


def _rest(context: VideoCodecContext) -> Iterator[VideoFrame]:
    yield from context.decode(None)
    context.flush_buffers()


def _groups(packets: Sequence[PacketInfo]) -> list[tuple[int, int]]:
    """[start, stop) of each group of pictures."""
    starts = [i for i, packet in enumerate(packets) if packet.keyframe or i == 0]
    return list(zip(starts, [*starts[1:], len(packets)], strict=True))


def _before(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and one < other
