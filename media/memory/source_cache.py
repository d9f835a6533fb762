"""What videos turned out to be when they were planned, for when they are asked about again."""

from threading import Lock

from cachetools import LRUCache

from saccade.media.planning.plan import VideoSource

_BYTES = 64 << 20
_BESIDE_PACKETS = 1024
_BYTES_PER_FRAME_TIME = 8


class SourceCache:
    """Video sources by the digest of their file; the ones that were used last, up to 64 MiB.

    For any thread.
    """

    def __init__(self, max_bytes: int = _BYTES) -> None:
        self._sources: LRUCache[bytes, VideoSource] = LRUCache(max_bytes, getsizeof=_size)
        self._lock = Lock()

    def get(self, digest: bytes) -> VideoSource | None:
        """The source of this file, if it is still known."""
        with self._lock:
            return self._sources.get(digest)

    def put(self, digest: bytes, source: VideoSource) -> None:
        """Keeps it, unless it is larger than all that may be kept."""
        with self._lock:
            if _size(source) <= self._sources.maxsize:
                self._sources[digest] = source


def _size(source: VideoSource) -> int:
    packets = 0 if source.packets is None else source.packets.nbytes
    return _BESIDE_PACKETS + packets + _BYTES_PER_FRAME_TIME * source.frames
