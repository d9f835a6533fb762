"""What `saccade doctor --fix` does: what set-up of a checkout does, and no more."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from saccade.kernels.cache import make_cache_folder
from saccade.kernels.cpu import build

# Importable, or absent: transformers imports these where they are installed, and fails with them.
_EXTENSIONS = ("torchvision", "torchaudio", "torchcodec")


def compile_operations() -> str:
    """Build the operations on the CPU anew."""
    file = build.library()
    folder = file.parent if file.exists() else make_cache_folder()
    return f"compiled: {build.build(folder, anew=True)}"


def remove_unfinished() -> str:
    """Remove what killed compilers left."""
    files = build.unfinished_files()
    for file in files:
        file.unlink(missing_ok=True)
    return f"removed: {', '.join(map(str, files))}"


def make_cache() -> str:
    """Make the cache folder this user's alone."""
    return f"for this user alone: {make_cache_folder()}"


def broken_extensions() -> Iterator[str]:
    """Packages that are installed and cannot be imported beside this torch."""
    for name in _EXTENSIONS:
        try:
            version(name)
        except PackageNotFoundError:
            continue
        try:
            importlib.import_module(name)
        except Exception:  # whatever its compiled part throws
            yield name


def uninstall(name: str) -> str:
    """Remove a package from this environment."""
    # Our own command line, no shell.
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "pip", "uninstall", "--yes", name], capture_output=True, text=True
    )
    if ended.returncode != 0:
        lines = ended.stderr.strip().splitlines() or ["pip failed"]
        raise RuntimeError(lines[-1])
    return f"uninstalled: {name}"
