"""Media that were uploaded before: named by an id, and read when they are needed."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Uploaded:
    """In place of a URL."""

    file_id: str


class UploadedFile:
    """What an id stands for: a file that is open, so that it may be deleted meanwhile.

    Attributes:
        digest: blake3's, of what it holds: known without reading it.
    """

    def __init__(self, path: Path, digest: bytes) -> None:
        self.digest = digest
        self._file = path.open("rb", buffering=0)
        self._size = os.fstat(self._file.fileno()).st_size

    def __len__(self) -> int:
        return self._size

    def read(self) -> bytes:
        """All of it. Blocks on the disk."""
        self._file.seek(0)
        return self._file.read()


OpenUploaded = Callable[[str, str], UploadedFile]
"""(id, owner) -> the file. Blocks. Raises UploadError: there is none of this owner's."""


def whole(file: bytes | UploadedFile) -> bytes:
    """What it holds."""
    return file if isinstance(file, bytes) else file.read()
