"""Rejects MP4 and MOV sample tables that would make FFmpeg allocate gigabytes.

FFmpeg makes an entry of dozens of bytes for every sample that a header announces, before it reads
one. Seen: libavformat 62.12 (FFmpeg 8.1, PyAV 18.1) took 3.4 GiB and eight seconds for a file of
three kilobytes.
"""

import re
from collections.abc import Iterator

from saccade.media.errors import DecodeError, LimitError

# Files of the other containers are not read as boxes.
_OTHERS = (b"\x1a\x45\xdf\xa3", b"RIFF", b"GIF8")

# Boxes that announce samples; a size of 64 bits (1 before the name) stands behind the name.
_TABLES = re.compile(rb"(\x00\x00\x00\x01)?(stsz|stz2|trun)")


def check_mp4_samples(data: bytes, most_samples: int) -> None:
    """Rejects an MP4 or MOV whose headers announce too many samples; other files pass.

    Tables are looked for at any depth outside the media data, since FFmpeg takes them at any.
    PCM sound, every sample of which lasts one tick, passes: FFmpeg does not expand it.

    Args:
        most_samples: of all tracks and fragments together.

    Raises:
        LimitError: more samples than that.
        DecodeError: a compressed header, whose size nobody can tell.
    """
    if data.startswith(_OTHERS):
        return
    samples = 0
    for box, start, stop in _boxes(data, 0, len(data)):
        if box == b"mdat":
            continue
        if data.find(b"cmov", start, stop) >= 0:
            raise DecodeError("a video with a compressed header is not supported")
        pcm = _pcm_tracks(data, start, stop)
        for table in _TABLES.finditer(data, start, stop):
            long, name = table.groups()
            position = table.start(2)
            if any(first < position < last for first, last in pcm):
                continue
            # Behind the name: flags, size, count in stsz and stz2, flags, count in trun.
            field = position + (8 if name == b"trun" else 12) + (8 if long else 0)
            samples += int.from_bytes(data[field : field + 4], "big")
        if samples > most_samples:
            raise LimitError(f"the video announces {samples} samples; the limit is {most_samples}")


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, stop) of the boxes that follow each other between two places."""
    while start + 8 <= end:
        size, header = int.from_bytes(data[start : start + 4], "big"), 8
        if size == 1:
            size, header = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        stop = end if size == 0 else min(start + size, end)
        yield data[start + 4 : start + 8], start, stop
        if stop < start + header:
            return
        start = stop


def _pcm_tracks(data: bytes, start: int, stop: int) -> list[tuple[int, int]]:
    """[start, stop) of the tracks of a header that hold nothing but PCM sound."""
    found = []
    for name, first, last in _boxes(data, start + 8, stop):
        if name != b"trak":
            continue
        track = data[first:last]
        durations = track.find(b"stts")
        if (
            all(track.count(name) == 1 for name in (b"trak", b"stts", b"soun"))
            and b"vide" not in track
            and track[durations + 8 : durations + 12] == b"\0\0\0\1"
            and track[durations + 16 : durations + 20] == b"\0\0\0\1"
        ):
            found.append((first, last))
    return found
