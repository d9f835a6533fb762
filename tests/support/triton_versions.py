"""Other Tritons than the one that is installed, in folders of their own, for child processes."""

import importlib.metadata
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# Torch 2.11 comes with the oldest; the newest is what has been tried of those that there are.
OLDEST, NEWEST = "3.6.0", "3.9.0"


def triton_path(version: str) -> list[Path]:
    """What to put first on the path for this Triton; nothing where it is the installed one.

    The wheel is installed once, without dependencies, in the user's cache: about 200 MB to
    download and 650 MB to 900 MB on disk.
    """
    if importlib.metadata.version("triton") == version:
        return []
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "saccade-tests"
    folder = cache / f"triton-{version}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            subprocess.run(
                [*command, "--target", f"{scratch}/new", f"triton=={version}"], check=True
            )
            if not folder.exists():  # another process may have been faster
                Path(scratch, "new").rename(folder)
    return [folder]
