"""Kernels compiled for GPUs that are not there: no driver is needed, only Triton's wheel."""

import atexit
import functools
import tempfile
from typing import Any

import triton
from kernel_forms import Specialisation
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
ARCHITECTURES = tuple(TARGETS)


@functools.cache
def _private_cache() -> str:
    """A fresh folder: no code of an earlier run, or of the machine's other users."""
    folder = tempfile.TemporaryDirectory(prefix="compiled-kernels-")
    atexit.register(folder.cleanup)
    return folder.name


def compile_kernel(specialisation: Specialisation, architecture: str) -> CompiledKernel:
    """The machine code of one form of a kernel, and what stands between it and the source."""
    function = specialisation.function
    unpinned = {"num_warps", "num_stages", "enable_fp_fusion"} - specialisation.options.keys()
    if unpinned:
        raise ValueError(f"{specialisation.name} leaves {sorted(unpinned)} to Triton's defaults")
    missing = set(function.arg_names) - specialisation.signature.keys()
    missing -= specialisation.constants.keys()
    if missing:
        raise ValueError(f"{specialisation.name} says nothing of {sorted(missing)}")
    signature = {
        name: specialisation.signature.get(name, "constexpr") for name in function.arg_names
    }
    divisible: dict[tuple[int], list[list[Any]]] = {
        (function.arg_names.index(name),): [["tt.divisibility", 16]]
        for name in specialisation.divisible
    }
    source = ASTSource(function, signature, dict(specialisation.constants), divisible)
    options = dict(specialisation.options)
    with triton.knobs.cache.scope():
        triton.knobs.cache.dir = _private_cache()
        return triton.compile(source, target=TARGETS[architecture], options=options)
