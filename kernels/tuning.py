"""How each kernel is launched, by architecture, number format and head size: a table that people
review. Nothing is tuned while requests run.

The numbers come from compiled code (registers, shared memory, spills), which needs no GPU.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

# The names that Triton gives these formats in a signature.
TYPE_NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


@dataclass(frozen=True)
class Launch:
    """How one kernel is launched."""

    warps: int
    stages: int = 1
    rows: int = 1  # of the tile that a program owns
    columns: int = 1  # of what a program reads at a time

    @property
    def options(self) -> dict[str, Any]:
        """The compiler's options, all of them pinned: defaults differ between Triton versions."""
        return {"num_warps": self.warps, "num_stages": self.stages, "enable_fp_fusion": True}


@dataclass(frozen=True)
class Specialisation:
    """One compiled form of a kernel, as the launcher would ask for it."""

    name: str
    function: Any  # what `triton.jit` returned
    signature: Mapping[str, str]  # type of each argument that is not a constant: "*bf16", "i32"
    constants: Mapping[str, Any]
    divisible: tuple[str, ...] = ()  # arguments that are multiples of 16
    options: Mapping[str, Any] = field(default_factory=dict)


# Yields the shipped forms of a file's kernels for an architecture.
Specialisations = Callable[[str], "list[Specialisation]"]


def architecture(device: torch.device) -> str:
    """``sm_90`` for NVIDIA, ``gfx942`` for AMD; ``cpu`` where Triton interprets."""
    return _cuda_architecture(device.index) if device.type == "cuda" else device.type


@functools.cache
def _cuda_architecture(index: int | None) -> str:
    if torch.version.hip:
        name: str = torch.cuda.get_device_properties(index).gcnArchName
        return name.split(":")[0]
    major, minor = torch.cuda.get_device_capability(index)
    return f"sm_{major}{minor}"


def mrope_launch(heads: int) -> Launch:
    """By the heads that a program rotates, of queries and keys together.

    A warp takes up to 32 heads, which no form needs more than 72 registers for. The 64 + 8 of the
    72B model take two warps, so that a multiprocessor holds more of them.
    """
    return Launch(warps=1 if heads <= 32 else 2)


# A program writes ``columns`` pairs of values: 4 pairs a lane, 16 bytes in a 16-bit format.
PATCH_INPUT = Launch(warps=4, columns=512)

# A program owns a patch: the 1280 values of Qwen2.5-VL in vectors of 8 leave no lane with more
# than two of them.
MERGE_INPUT = Launch(warps=4)
