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

from saccade.media.decode.formats import name_format
from saccade.media.errors import DecodeError, LimitError, MediaError
from saccade.media.limits import MediaLimits

# FFmpeg's names. It also reads playlists and scripts that name other files and URLs: only these,
# which hold their frames themselves, are opened.
_CONTAINERS = ("mov", "matroska", "avi", "gif", "mpegts", "mpeg", "flv", "ogg", "asf")
_CONTAINER_NAMES = "MP4, MOV, WebM, MKV, AVI, GIF, TS, MPG, FLV, OGV or WMV"
# Decoders; what few files have is not worth the risk. All are among those that FFmpeg's own fuzzing
# has run for years, and none calls another library but libdav1d and libvpx.
_CODECS = frozenset(
    {
        *("av1", "libdav1d", "h263", "h264", "hevc", "vp8", "vp9", "libvpx", "libvpx-vp9"),
        *("mpeg1video", "mpeg2video", "mpeg4", "msmpeg4", "msmpeg4v2", "mjpeg", "prores"),
        *("theora", "ffv1", "gif", "png", "qtrle", "rawvideo"),
        *("flv", "wmv1", "wmv2", "wmv3", "vc1", "dnxhd", "dvvideo", "cinepak", "huffyuv"),
    }
)
_RESTARTING = ("mpegts", "mpeg")
_RESTART = 9000  # ticks of 90 kHz that it goes back by, at least; by less, it is a muxer's error
# Only these decoders may run to find out about a stream.
_OPTIONS = {
    "format_whitelist": ",".join(_CONTAINERS),
    "protocol_whitelist": "none",
    "codec_whitelist": ",".join(sorted(_CODECS)),
    "max_streams": "100",  # each may get a decoder of its own
}


class Cancelled(Exception):
    """The caller no longer wants the video."""


class DecodeDeadline:
    """Ends a decode that nobody waits for any more, or that takes too long."""

    def __init__(self, limits: MediaLimits, cancelled: Event | None = None) -> None:
        self._cancelled = cancelled
        self._seconds = limits.max_decoding_seconds
        self._end = time.monotonic() + self._seconds

    def demuxed(
        self, container: InputContainer, stream: VideoStream
    ) -> Iterator["Packet[VideoStream]"]:
        """Every packet, the empty one at the end included. Some give no frame: each is checked.

        Where the clock of a transport or program stream begins anew, as in two that were joined,
        it goes on instead.

        Raises:
            Cancelled. LimitError: ``max_decoding_seconds`` have passed.
        """
        restarts = container.format.name in _RESTARTING
        end = shift = 0
        for packet in container.demux(stream):
            if self._cancelled is not None and self._cancelled.is_set():
                raise Cancelled
            if time.monotonic() > self._end:
                raise LimitError(f"the video takes longer than {self._seconds:g} s to decode")
            if restarts and packet.dts is not None and packet.pts is not None:
                if end and packet.dts + shift < end - _RESTART:
                    shift = end - packet.dts
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                end = packet.dts + (packet.duration or 0)
            yield packet


@contextmanager
def opened(
    data: bytes, limits: MediaLimits, threads: int = 1
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and the video that players show of it; FFmpeg's errors leave as DecodeError."""
    if not data:
        raise DecodeError("the video is empty")
    # A stream may change its size on the way: the decoder then refuses for us.
    most = {"max_pixels": str(limits.max_frame_pixels)}
    options = _OPTIONS | most  # those of the decoders that look into the stream are among them
    try:
        with av.open(BytesIO(data), mode="r", options=options) as container:
            stream = container.streams.best("video")
            if stream is None:
                raise DecodeError("the file has no video stream")
            assert isinstance(stream, VideoStream)
            context = stream.codec_context
            # FFmpeg makes no context for a codec that it does not know either.
            if context is None or context.name not in _CODECS:
                name = "unknown" if context is None else context.name
                taken = ", ".join(sorted(_CODECS))
                raise DecodeError(f"the video's codec is not supported: {name}; use one of {taken}")
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
        raise DecodeError(
            f"{name_format(data)}, which is damaged or not supported as a video; "
            f"use {_CONTAINER_NAMES}"
        ) from error
