"""The user's cache folder: what was compiled for this processor, what was measured on this GPU."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """``saccade`` below ``XDG_CACHE_HOME`` or ``~/.cache``. It need not exist.

    Raises:
        OSError: this user has no home.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        return given / "saccade"
    try:
        return Path.home() / ".cache" / "saccade"
    except RuntimeError as error:
        raise OSError(f"there is no cache folder: {error}; set XDG_CACHE_HOME") from None


def make_cache_folder() -> Path:
    """The folder, made if need be, for this user alone.

    Raises:
        OSError: it cannot be made.
    """
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def is_private(file: Path) -> bool:
    """Whether the file and its folder can be written by this user, or root, alone."""
    try:
        owners = [place.stat() for place in (file, file.parent)]
    except OSError:
        return False
    return all(place.st_uid in (0, os.geteuid()) and not place.st_mode & 0o022 for place in owners)
