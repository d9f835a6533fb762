"""Rejects images of too many JPEG scans, PNG chunks or reads before anything is decoded.

A file's parts can cost far more work than its pixels do, and decoders set no bound of their own.
Seen: libjpeg-turbo 3.2 was busy for eight seconds with a file of 230 KB, Pillow 13.0 for three,
holding the GIL, with the header of one of 30 MB.
"""

import re
import struct
from collections.abc import Iterator
from io import BytesIO

from saccade.media.errors import DecodeError

# 0xFF 0x00 is a byte of data, 0xD0 to 0xD7 restart markers inside a scan (ITU T.81, B.1).
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_START, _END, _SCAN, _TEMPORARY = 0xD8, 0xD9, 0xDA, 0x01
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})


def has_many_scans(data: bytes, most: int) -> bool:
    """Whether a JPEG comes in several scans, so that its coefficients are all held.

    Raises:
        DecodeError: more than ``most``.
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
            if scans > most:
                raise DecodeError(f"a JPEG of more than {most} scans is not decoded")
        position += int.from_bytes(data[position : position + 2], "big")
    return scans > 0


def png_chunks(data: bytes, most: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, start, stop) of the body of every chunk.

    Raises:
        DecodeError: more than ``most``.
    """
    position, count = 8, 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        count += 1
        if count > most:
            raise DecodeError(f"a PNG of more than {most} chunks is not decoded")
        yield kind, position + 8, position + 8 + length
        position += length + 12


class CountedReader(BytesIO):
    """A file of which PIL may read ``most`` pieces.

    Raises:
        DecodeError: by `read`, where one more is asked for.
    """

    def __init__(self, data: bytes, most: int) -> None:
        super().__init__(data)
        self._most = most
        self.reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """As `io.BytesIO.read`, counted."""
        self.reads += 1
        if self.reads > self._most:
            raise DecodeError(f"an image of more than {self._most} pieces is not decoded")
        return super().read(size)
