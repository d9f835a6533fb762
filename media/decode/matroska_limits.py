"""Rejects Matroska and WebM files of more elements than FFmpeg should allocate entries for.

FFmpeg makes an entry of up to a hundred bytes for every element of a list (tracks, cues, chapters,
tags, attachments, additions to a block), however few bytes of the file the element takes.
"""

from collections.abc import Iterator

from saccade.media.errors import LimitError

EBML = b"\x1a\x45\xdf\xa3"
# Below the segment. FFmpeg may take one up wherever it stands, so each counts at any depth.
_TOP = {
    0x114D9B74: "SeekHead",
    0x1654AE6B: "Tracks",
    0x1C53BB6B: "Cues",
    0x1941A469: "Attachments",
    0x1043A770: "Chapters",
    0x1254C367: "Tags",
    0x1F43B675: "Cluster",
}
# Elements that hold elements, below those.
_MASTERS = frozenset(
    {
        *(0x4DBB,),  # Seek
        *(0xAE, 0xE0, 0xE1, 0xE2, 0xE3, 0xE4, 0x41E4, 0x6D80, 0x6240, 0x5034, 0x5035),  # TrackEntry
        *(0xBB, 0xB7, 0xDB),  # CuePoint
        *(0x61A7,),  # AttachedFile
        *(0x45B9, 0xB6, 0x80, 0x8F, 0x6944, 0x6911),  # EditionEntry, ChapterAtom
        *(0x7373, 0x63C0, 0x67C8),  # Tag, SimpleTag
        *(0xA0, 0x75A1, 0xA6, 0x8E, 0xE8),  # BlockGroup
    }
)
_LONGEST_ID = 4
_LONGEST_SIZE = 8


def check_matroska_elements(data: bytes, most: int) -> None:
    """Rejects a Matroska or WebM file of too many elements; other files pass.

    Args:
        most: elements of all lists, blocks of frames included.

    Raises:
        LimitError: more than that.
    """
    if not data.startswith(EBML):
        return
    count = 0
    for number in _TOP:
        name = number.to_bytes(4, "big")
        position = data.find(name)
        while position >= 0:
            for _ in _elements(data, position):
                count += 1
                if count > most:
                    raise LimitError(f"the video has more than {most} elements; that is the limit")
            position = data.find(name, position + 4)


def _elements(data: bytes, start: int) -> Iterator[int]:
    """Ids of the elements, at any depth, of the element of the top level that begins at a place."""
    size, position = _size(data, start + 4)
    end = len(data) if size is None else min(position + size, len(data))
    while position < end:
        length = 9 - data[position].bit_length()  # of the id: one more than its leading zeros
        number = int.from_bytes(data[position : position + length], "big")
        if length > _LONGEST_ID or number in _TOP:
            return  # no id, or the end of an element of unknown size
        yield number
        size, position = _size(data, position + length)
        if number not in _MASTERS:
            if size is None:
                return
            position += size


def _size(data: bytes, position: int) -> tuple[int | None, int]:
    """The size that is written at a place (None: unknown), and where it ends."""
    length = 9 - data[position].bit_length() if position < len(data) else 9
    if length > _LONGEST_SIZE:
        return None, len(data)
    stop = position + length
    mask = (1 << 7 * length) - 1
    value = int.from_bytes(data[position:stop], "big") & mask
    return None if value == mask else value, stop
