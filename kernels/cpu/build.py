"""Builds the compiled operations of the CPU backend, for the processor of this machine.

``python -m saccade.kernels.cpu.build`` does so with the machine's C++ compiler. The file's name
says what it was built from and for, so that a stale one, or one that came along from another
machine, is never loaded: PyTorch's operations run instead.
It lies beside its sources, where set-up puts it, or in the user's cache, where `saccade serve`
does.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch.utils.cpp_extension import include_paths, library_paths

from ..cache import cache_folder, is_private, make_cache_folder
from .processor import flags, processor

_FOLDER = Path(__file__).parent
_CSRC = _FOLDER / "csrc"
_SOURCES = ("operations.cpp", "jpeg.cpp", "png.cpp")
_INCLUDED = ("attention.cpp", "colours.cpp", "layers.cpp", "resize.cpp")
_HEADERS = ("vectors.h", "bytes.h", "resize_tables.h", "resize_rows.h", "turned.h")
_FILES = (*_SOURCES, *_INCLUDED, *_HEADERS)
_FLAGS = ("-O3", "-fopenmp", "-fno-math-errno", "-std=c++20", "-shared", "-fPIC")
# Twenty seconds is what it takes, on a slow machine a minute.
_GIVEN_UP_SECONDS = 1800


def build(
    folder: Path | None = None,
    architecture: str = "native",
    capability: str | None = None,
    *,
    anew: bool = False,
) -> Path:
    """Compile it, unless it is there; returns the file.

    Args:
        folder: Where; unless said otherwise beside its sources, or in the user's cache if that
            cannot be written: `extension.load` looks into both.
        architecture, capability: As of `compile_command`; this processor's unless said otherwise.
        anew: Compile it in any case; what is there stays until that has succeeded.

    Raises:
        RuntimeError: there is no compiler, or it fails; says what it said.
        OSError: the folder cannot be written.
    """
    file = library(architecture) if folder is None else folder / library(architecture).name
    if file.exists() and not anew:
        return file
    if folder is None and not os.access(_FOLDER, os.W_OK):
        folder = cache_folder()
        make_cache_folder()
    folder = _FOLDER if folder is None else folder
    file = folder / file.name
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        raise RuntimeError("there is no C++ compiler (c++, g++ or $CXX)")
    # Whoever finds the file finds all of it.
    unfinished = file.with_suffix(f".{os.getpid()}")
    command = [
        *compile_command(compiler, capability or _capability(), architecture),
        *(f"-L{folder}" for folder in library_paths()),
        *("-ltorch_cpu", "-lc10", "-o", str(unfinished)),
        *(("-ljpeg",) if _has_jpeg(compiler) else ()),
    ]
    try:
        finished = _run(command)
        if finished.returncode != 0:
            raise RuntimeError(f"{compiler} failed:\n{finished.stderr[-2000:]}")
        unfinished.chmod(0o755)  # whatever the umask is: see `is_private`
        unfinished.rename(file)
        if folder == _FOLDER:  # several versions may share a cache
            for old in {*folder.glob("compiled-*.so")} - {file}:
                old.unlink(missing_ok=True)
    finally:
        unfinished.unlink(missing_ok=True)
    return file


def unfinished_files() -> list[Path]:
    """What compilers that were killed have left: ``compiled-....PID``, untouched for long."""
    return [
        file
        for folder in _folders()
        for file in folder.glob("compiled-*")
        if file.suffix[1:].isdecimal() and time.time() - file.stat().st_mtime > _GIVEN_UP_SECONDS
    ]


def _folders() -> list[Path]:
    """Where it may be, the first that has it counts."""
    try:
        return [_FOLDER, cache_folder()]
    except OSError:
        return [_FOLDER]


def _capability() -> str:
    """PyTorch's name of the processor's vectors, whatever limit ATen is given now."""
    features = processor().features
    if found := next((name for name in ("AVX512", "AVX2") if name in features), None):
        return found
    return torch.backends.cpu.get_cpu_capability()


def _has_jpeg(compiler: str) -> bool:
    """Whether the compiler finds libjpeg-turbo's headers; its library is packed with them."""
    found = _run(
        [compiler, "-E", "-x", "c", "-include", "stdio.h", "-include", "jpeglib.h", os.devnull]
    )
    return found.returncode == 0


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    # Our own command lines, no shell.
    return subprocess.run(command, capture_output=True, text=True)  # noqa: S603


def compile_command(
    compiler: str, capability: str, architecture: str, sources: tuple[str, ...] = _SOURCES
) -> list[str]:
    """What compiles it.

    Args:
        capability: PyTorch's name of the vectors it is written for: ``AVX2``, ``AVX512``...
        architecture: the compiler's name of the processor.
        sources: files of `csrc`.
    """
    return [
        compiler,
        *_FLAGS,
        f"-march={architecture}",
        f"-DCPU_CAPABILITY={capability}",
        f"-DCPU_CAPABILITY_{capability}",
        *(f"-isystem{folder}" for folder in include_paths()),
        *(str(_CSRC / name) for name in sources),
    ]


def library(architecture: str = "native") -> Path:
    """The file for this source, PyTorch and processor; beside its sources if there is none yet."""
    sources = [(_CSRC / name).read_text(encoding="utf-8") for name in _FILES]
    made_of = (*sources, torch.__version__, *_FLAGS, flags(), architecture)
    digest = hashlib.sha256("\0".join(made_of).encode()).hexdigest()[:16]
    beside, *others = [folder / f"compiled-{digest}.so" for folder in _folders()]
    # The cache is wherever the environment says: nobody else may have put code there.
    cached = (file for file in others if not beside.exists() and is_private(file))
    return next(cached, beside)


if __name__ == "__main__":
    try:
        print(build())
    except (RuntimeError, OSError) as error:
        sys.exit(f"the compiled operations are not available: {error}")
