"""Compiled backends for the CPU, of attention, layers and pictures: built where they run.

``python -m saccade.kernels.cpu.extension`` builds them with the machine's C++ compiler, for the
machine's processor. The file's name says what it was built from and for, so that a stale one, or
one that came along from another machine, is never loaded: PyTorch's backends run instead.
"""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.cpp_extension import include_paths, library_paths

from .processor import flags, processor

_FOLDER = Path(__file__).parent
_CSRC = _FOLDER / "csrc"
_SOURCES = ("attention.cpp", "layers.cpp", "resize.cpp", "jpeg.cpp")
_HEADERS = ("vectors.h", "bytes.h", "resize_tables.h", "resize_rows.h")
_FILES = (*_SOURCES, *_HEADERS)
_LOCK = threading.Lock()
_FLAGS = ("-O3", "-fopenmp", "-fno-math-errno", "-std=c++20", "-shared", "-fPIC")


class Extension(NamedTuple):
    """What there is of it.

    Attributes:
        operations: ``attention(qkv, cos, sin, cu_seqlens)`` and ``attention_bfloat16``, the layers
            of ``layers.cpp`` and ``resize(pixels, out)``; None if there are none. Whether they
            are right is not known here: `compiled.operation` is the way to them.
        reason: Why it is, or is not, there.
        decode_resized_jpeg: ``saccade_decode_resized_jpeg`` of ``jpeg.cpp``; None if that is
            not there.
    """

    operations: Any
    reason: str
    decode_resized_jpeg: Any = None


@functools.cache
def load() -> Extension:
    """Load it, if it has been built for this machine from this source."""
    with _LOCK:  # two threads may be the first, and it registers once
        return _load()


@functools.cache
def _load() -> Extension:
    file = _library()
    if not file.exists():
        return Extension(None, f"not compiled here: python -m {__name__}")
    try:
        library = ctypes.CDLL(str(file))  # registers its operations with PyTorch
    except OSError as error:
        return Extension(None, f"compiled, but not loaded: {error}")
    _register_fakes()
    reason = "compiled for this processor"
    decode = getattr(library, "saccade_decode_resized_jpeg", None)
    if decode is None:
        missing = "JPEGs are not: that takes AVX2 and the headers of libjpeg-turbo"
        return Extension(torch.ops.saccade_cpu, f"{reason}; {missing}")
    size = ctypes.c_int64
    decode.argtypes = [ctypes.c_char_p, size, size, size, ctypes.c_void_p, size, size]
    decode.restype = ctypes.c_bool
    return Extension(torch.ops.saccade_cpu, reason, decode)


def _register_fakes() -> None:
    """What `torch.compile` has to know of them: shapes."""

    @torch.library.register_fake("saccade_cpu::attention")
    @torch.library.register_fake("saccade_cpu::attention_bfloat16")
    def _attention(qkv: Any, cos: Any, sin: Any, cu_seqlens: Any) -> Any:
        return qkv.new_empty(qkv.shape[0], qkv.shape[2] * qkv.shape[3])

    @torch.library.register_fake("saccade_cpu::rms_norm")
    def _rms_norm(x: Any, weight: Any, eps: float) -> Any:
        return torch.empty_like(x)

    @torch.library.register_fake("saccade_cpu::add_rms_norm")
    def _add_rms_norm(x: Any, residual: Any, weight: Any, eps: float) -> None:
        return None

    @torch.library.register_fake("saccade_cpu::silu_and_mul")
    def _silu_and_mul(x: Any) -> Any:
        return x.new_empty(*x.shape[:-1], x.shape[-1] // 2)

    @torch.library.register_fake("saccade_cpu::mrope")
    def _mrope(*_arguments: Any) -> None:
        return None


def build(
    folder: Path | None = None, architecture: str = "native", capability: str | None = None
) -> Path:
    """Compile it, unless it is there; returns the file.

    Args:
        folder: Where; beside its sources, where `load` looks for it, unless said otherwise.
        architecture, capability: As of `compile_command`; this processor's unless said otherwise.

    Raises:
        RuntimeError: there is no compiler, or it fails; says what it said.
    """
    folder = _FOLDER if folder is None else folder
    file = folder / _library(architecture).name
    if file.exists():
        return file
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        raise RuntimeError("there is no C++ compiler (c++, g++ or $CXX)")
    for old in folder.glob("compiled-*.so"):
        old.unlink()
    # Whoever finds the file finds all of it.
    unfinished = file.with_suffix(f".{os.getpid()}")
    command = [
        *compile_command(compiler, capability or _capability(), architecture),
        *(f"-L{folder}" for folder in library_paths()),
        *("-ltorch_cpu", "-lc10", "-o", str(unfinished)),
        *(("-ljpeg",) if _has_jpeg(compiler) else ()),
    ]
    finished = _run(command)
    if finished.returncode != 0:
        raise RuntimeError(f"{compiler} failed:\n{finished.stderr[-2000:]}")
    unfinished.rename(file)
    return file


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


def pattern() -> str:
    """Matches every file of compiled backends that there may be."""
    return str(_FOLDER / "compiled-*.so")


def _library(architecture: str = "native") -> Path:
    """The file for this source, PyTorch and processor."""
    sources = [(_CSRC / name).read_text(encoding="utf-8") for name in _FILES]
    made_of = (*sources, torch.__version__, *_FLAGS, flags(), architecture)
    digest = hashlib.sha256("\0".join(made_of).encode()).hexdigest()[:16]
    return _FOLDER / f"compiled-{digest}.so"


if __name__ == "__main__":
    try:
        print(build())
    except RuntimeError as error:
        sys.exit(f"the compiled backends for the CPU are not available: {error}")
