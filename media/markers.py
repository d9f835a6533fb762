"""Files whose parts, counted before decoding, would cost far more work than their pixels do."""

import re
import struct
from collections.abc import Iterator
from io import BytesIO

from saccade.media.errors import DecodeError

# Usual are 10 scans in a progressive JPEG; each costs a pass over the whole picture.
MAX_JPEG_SCANS = 100
# 256 MiB in the 8 KiB pieces that libpng writes are half as many.
MAX_PNG_CHUNKS = 65_536

# PIL takes four for a chunk of a PNG or a comment of a JPEG, three for one of a GIF; about a
# microsecond each, whatever they hold, while no other Python runs.
MAX_READS = 400_000

# 0xFF 0x00 is a byte of data, 0xD0 to 0xD7 restart markers inside a scan (ITU T.81, B.1).
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_START, _END, _SCAN, _TEMPORARY = 0xD8, 0xD9, 0xDA, 0x01
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})


def has_many_scans(data: bytes) -> bool:
    """Whether a JPEG comes in several scans, so that its coefficients are all held.

    Raises:
        DecodeError: more than ``MAX_JPEG_SCANS``.
    """
    components, progressive, scans = 0, False, 0
    position = 2
    while (marker := _MARKER.search(data, position)) and marker[1][0] != _END:
        kind, position = marker[1][0], marker.end()
        if kind in (_START, _TEMPORARY):
            continue
        if position + 8 > len(data):
            break
        if kind in _FRAMES:
            components, progressive = data[position + 7], kind in _PROGRESSIVE
        if kind == _SCAN:
            if not scans and not progressive and data[position + 2] >= components:
                return False
            scans += 1
            if scans > MAX_JPEG_SCANS:
                raise DecodeError(f"a JPEG of more than {MAX_JPEG_SCANS} scans is not decoded")
        position += int.from_bytes(data[position : position + 2], "big")
    return scans > 0


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, start, stop) of the body of every chunk.

    Raises:
        DecodeError: more than ``MAX_PNG_CHUNKS``.
    """
    position, count = 8, 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        count += 1
        if count > MAX_PNG_CHUNKS:
            raise DecodeError(f"a PNG of more than {MAX_PNG_CHUNKS} chunks is not decoded")
        yield kind, position + 8, position + 8 + length
        position += length + 12


class CountedReader(BytesIO):
    """A file of which PIL may read ``MAX_READS`` pieces: beyond that it is made of nothing else.

    Raises:
        DecodeError: by `read`, where one more is asked for.
    """

    _reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """As `io.BytesIO.read`, counted."""
        self._reads += 1
        if self._reads > MAX_READS:
            raise DecodeError(f"an image of more than {MAX_READS} pieces is not decoded")
        return super().read(size)
