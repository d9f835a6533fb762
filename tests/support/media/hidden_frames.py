"""A video of which only decoding tells how many frames it has."""

import io

import av
import numpy as np


def with_hidden_frames(vp8: bytes, count: int) -> bytes:
    """The WebM file with so many packets more that are decoded and never shown (RFC 6386, 9.1).

    They lie 40 units of the stream's time base apart, after the last frame.
    """
    output = io.BytesIO()
    with av.open(io.BytesIO(vp8)) as reader, av.open(output, "w", format="webm") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        packets = [packet for packet in reader.demux(video=0) if packet.size]
        last = packets[-1]
        assert not last.is_keyframe
        hidden = bytearray(bytes(last))
        hidden[0] &= ~0x10  # show_frame
        for number in range(count):
            packet = av.Packet(bytes(hidden))
            packet.time_base = last.time_base
            packet.pts = packet.dts = last.pts + 40 * (number + 1)
            packets.append(packet)
        for packet in packets:
            packet.stream = stream
            writer.mux(packet)
    return output.getvalue()


def encode_vp8(frames: int, width: int = 112, height: int = 84) -> bytes:
    """A WebM file of grey frames, 25 a second, each lighter than the one before."""
    output = io.BytesIO()
    with av.open(output, "w", format="webm") as writer:
        stream = writer.add_stream("libvpx", rate=25)
        stream.width, stream.height = width, height
        for number in range(frames):
            shade = np.full((height, width, 3), 255 * number // frames, np.uint8)
            writer.mux(stream.encode(av.VideoFrame.from_ndarray(shade)))
        writer.mux(stream.encode())
    return output.getvalue()
