"""Opens a video's container with FFmpeg (PyAV) under limits, and hands out its packets."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from threading import Event

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from saccade.media.errors import DecodeError, LimitError, MediaError
from saccade.media.limits import MediaLimits

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


class Cancelled(Exception):
    """The caller no longer wants the video."""


class DecodeDeadline:
    """Ends a decode that nobody waits for any more, or that takes too long."""

    def __init__(self, limits: MediaLimits, cancelled: Event | None = None) -> None:
        self._cancelled = cancelled
        self._seconds = limits.max_decoding_seconds
        self._end = time.monotonic() + self._seconds

    def check(self) -> None:
        """Raises Cancelled, or LimitError once ``max_decoding_seconds`` have passed."""
        if self._cancelled is not None and self._cancelled.is_set():
            raise Cancelled
        if time.monotonic() > self._end:
            raise LimitError(f"the video takes longer than {self._seconds:g} s to decode")


@contextmanager
def opened(
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


def has_stamps(container: InputContainer, stream: VideoStream) -> bool:
    """Whether the stamps of packets can be believed.

    AVI has none and FFmpeg makes them up: wrong ones for codecs whose frames it cannot tell the
    order of without decoding them.
    """
    return container.format.name != "avi" or stream.codec_context.name not in ("h264", "hevc")


def demuxed(
    container: InputContainer, stream: VideoStream, deadline: DecodeDeadline
) -> Iterator["Packet[VideoStream]"]:
    """Every packet, the empty one at the end included. Some give no frame: each is checked."""
    for packet in container.demux(stream):
        deadline.check()
        yield packet
