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
