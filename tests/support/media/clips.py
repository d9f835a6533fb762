"""Videos of numbered frames, made, cut, joined and damaged with PyAV; and read by it, plainly."""

import io
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.packet import PacketSideData, packet_sidedata_type_from_literal

Pixels = npt.NDArray[np.uint8]

WIDTH, HEIGHT, BITS = 160, 128, 8
MILLISECOND = Fraction(1, 1000)


def numbered(number: int, width: int = WIDTH, height: int = HEIGHT) -> Pixels:
    """Eight bars from left to right, white for a set bit, on black."""
    frame = np.zeros((height, width, 3), np.uint8)
    for bit in range(BITS):
        if number >> bit & 1:
            frame[:, bit * width // BITS : (bit + 1) * width // BITS] = 255
    return frame


def read_number(frame: Pixels) -> int:
    """The number that such a frame shows, at any size."""
    width = frame.shape[1]
    middles = [frame[:, int((bit + 0.5) * width / BITS)].mean() for bit in range(BITS)]
    return sum((middle > 128) << bit for bit, middle in enumerate(middles))


def is_clean(frame: Pixels) -> bool:
    """Whether the bars are black and white: a frame made of the wrong ones has grey in it."""
    width = frame.shape[1]
    middles = np.stack([frame[:, int((bit + 0.5) * width / BITS)] for bit in range(BITS)])
    return bool(((middles < 64) | (middles > 192)).mean() > 0.95)


def video(
    container: str,
    codec: str,
    frames: int | Iterable[av.VideoFrame] = 40,
    *,
    first: int = 0,
    rate: int | Fraction = 25,
    pix_fmt: str = "yuv420p",
    times: Sequence[int] | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    options: dict[str, str] | None = None,
    prepare: Callable[[Any], None] = lambda stream: None,
    **muxer: str,
) -> bytes:
    """Encodes numbered frames, or those given.

    Args:
        first: the number of the first; ``times``: of each, in milliseconds, instead of a ``rate``.
        prepare: called with the stream before it is opened.
    """
    if isinstance(frames, int):
        pixels = (numbered(first + number, *size) for number in range(frames))
        frames = (av.VideoFrame.from_ndarray(shown, format="rgb24") for shown in pixels)
    output = io.BytesIO()
    with av.open(output, "w", format=container, options=muxer) as writer:
        stream = writer.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.options = options or {}
        stream.codec_context.thread_count = 1
        if times is not None:
            stream.codec_context.time_base = MILLISECOND
        prepare(stream)
        for number, frame in enumerate(frames):
            if times is not None:
                frame.pts, frame.time_base = times[number], MILLISECOND
            writer.mux(stream.encode(frame))
        writer.mux(stream.encode())
    return output.getvalue()


def packets(data: bytes) -> list[bytes]:
    """The packets of its video, in the order of decoding."""
    with av.open(io.BytesIO(data)) as reader:
        return [bytes(packet) for packet in reader.demux(video=0) if packet.size]


def broken(data: bytes, number: int) -> bytes:
    """With every byte of one packet, in the order of decoding, set to 0xff."""
    position = 0
    for packet in packets(data)[: number + 1]:
        start = data.index(packet, position)
        position = start + len(packet)
    return data[:start] + b"\xff" * len(packet) + data[position:]


def copied(
    data: bytes, container: str, start: float = 0.0, bitstream: str | None = None, **muxer: str
) -> bytes:
    """Copied into a container without decoding, from the last keyframe before ``start`` seconds."""
    output = io.BytesIO()
    with av.open(io.BytesIO(data)) as reader, av.open(output, "w", container, options=muxer) as to:
        source = reader.streams.video[0]
        stream = to.add_stream_from_template(source)
        bsf = bitstream and av.bitstream.BitStreamFilterContext(bitstream, source, stream)
        listed = [packet for packet in reader.demux(source) if packet.size]
        begin = 0
        for number, packet in enumerate(listed):
            if packet.is_keyframe and float(packet.pts * packet.time_base) <= start:
                begin = number
        offset = min(packet.pts for packet in listed[begin:])
        for packet in listed[begin:]:
            packet.pts -= offset
            if packet.dts is not None:  # Matroska has no decoding stamps
                packet.dts -= offset
            for out in bsf.filter(packet) if bsf else [packet]:
                out.stream = stream
                to.mux(out)
    return output.getvalue()


def joined(parts: Sequence[bytes], container: str) -> bytes:
    """One after the other without decoding; each brings the headers of its codec."""
    output = io.BytesIO()
    stream, end, last = None, 0, None
    with av.open(output, "w", format=container) as writer:
        for data in parts:
            with av.open(io.BytesIO(data)) as reader:
                source = reader.streams.video[0]
                listed = [packet for packet in reader.demux(source) if packet.size]
                headers = source.codec_context.extradata
                if stream is None:
                    stream = writer.add_stream_from_template(source)
                elif headers:
                    kind = packet_sidedata_type_from_literal("new_extradata")
                    changed = PacketSideData.__new__(PacketSideData, kind, len(headers))
                    changed.update(headers)
                    listed[0].set_sidedata(changed)
                shift = end - min(packet.pts for packet in listed)
                if last is not None:  # decoding stamps rise, whatever the parts' delays
                    shift = max(shift, last + 1 - listed[0].dts)
                for packet in listed:
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    end, last = max(end, packet.pts + packet.duration), packet.dts
                    packet.stream = stream
                    writer.mux(packet)
    return output.getvalue()


def plain(data: bytes) -> list[tuple[float | None, Pixels]]:
    """(seconds from the first, RGB) of every frame that PyAV gives, from beginning to end."""
    frames: list[tuple[float | None, Pixels]] = []
    with av.open(io.BytesIO(data)) as reader:
        stream = reader.streams.best("video")
        assert stream is not None
        for packet in reader.demux(stream):
            for frame in packet.decode():
                pixels = frame.to_ndarray(format="rgb24")
                frames.append((None if frame.pts is None else frame.time, pixels))
    first = frames[0][0]
    return [(None if at is None or first is None else at - first, shown) for at, shown in frames]
