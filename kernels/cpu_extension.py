"""The compiled form of attention on the CPU: built where it runs, used if it is there.

``python -m saccade.kernels.cpu_extension`` builds it with the machine's C++ compiler, for the
machine's processor. Its name says what it was built from and for, so that a stale one, or one
that came along from another machine, is never loaded: PyTorch's form runs instead.
"""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.cpp_extension import include_paths, library_paths

_SOURCE = Path(__file__).with_name("cpu_attention.cpp")
_FLAGS = ("-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-std=c++20", "-shared", "-fPIC")


class Extension(NamedTuple):
    """What there is of it.

    Attributes:
        attention: ``(qkv, cos, sin, borders, bfloat16_products)``; None if there is none.
        reason: Why it is, or is not, there.
    """

    attention: Callable[..., torch.Tensor] | None
    reason: str


@functools.cache
def load() -> Extension:
    """Load it, if it has been built for this machine from this source."""
    file = _library()
    if not file.exists():
        return Extension(None, f"not compiled here: python -m {__name__}")
    try:
        ctypes.CDLL(str(file))  # registers its operation with PyTorch
    except OSError as error:
        return Extension(None, f"compiled, but not loaded: {error}")
    return Extension(torch.ops.saccade_cpu.attention, "compiled for this processor")


def build() -> Path:
    """Compile it, unless it is there; returns the file.

    Raises:
        RuntimeError: there is no compiler, or it fails; says what it said.
    """
    file = _library()
    if file.exists():
        return file
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        raise RuntimeError("there is no C++ compiler (c++, g++ or $CXX)")
    for old in file.parent.glob("cpu_attention-*.so"):
        old.unlink()
    capability = torch.backends.cpu.get_cpu_capability()
    command = [
        compiler,
        *_FLAGS,
        f"-DCPU_CAPABILITY={capability}",
        f"-DCPU_CAPABILITY_{capability}",
        *(f"-isystem{folder}" for folder in include_paths()),
        str(_SOURCE),
        *(f"-L{folder}" for folder in library_paths()),
        "-ltorch_cpu",
        "-lc10",
        "-o",
    ]
    # Whoever finds the file finds all of it.
    unfinished = file.with_suffix(f".{os.getpid()}")
    finished = subprocess.run([*command, str(unfinished)], capture_output=True, text=True)  # noqa: S603
    if finished.returncode != 0:
        raise RuntimeError(f"{compiler} failed:\n{finished.stderr[-2000:]}")
    unfinished.rename(file)
    return file


def _library() -> Path:
    """The file for this source, PyTorch and processor."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        cpuinfo = ""
    features = next(
        (line for line in cpuinfo.splitlines() if line.startswith(("flags", "Feat"))), ""
    )
    made_of = (_SOURCE.read_text(encoding="utf-8"), torch.__version__, *_FLAGS, features)
    digest = hashlib.sha256("\0".join(made_of).encode()).hexdigest()[:16]
    return _SOURCE.with_name(f"cpu_attention-{digest}.so")


if __name__ == "__main__":
    try:
        print(build())
    except RuntimeError as error:
        sys.exit(f"the compiled form of attention is not available: {error}")
