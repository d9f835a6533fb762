"""Media that were uploaded before, and are named by an id."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Uploaded:
    """In place of a URL."""

    file_id: str


ReadUploaded = Callable[[str, str], bytes]
"""(id, owner) -> what the file holds. Blocks. Raises UploadError: there is none of this owner's."""
