"""How each kernel is launched, by architecture, number format, head size and release of Triton: a
table that people review. Nothing is tuned while requests run.

The numbers come from compiled code (registers, shared memory, spills), which needs no GPU.
"""

import functools
from dataclasses import dataclass
from typing import Any

import torch
import triton

TRITON = tuple(int(part) for part in triton.__version__.split(".")[:2])

# The names that Triton gives these formats in a signature.
TYPE_NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


@dataclass(frozen=True)
class Launch:
    """How one kernel is launched."""

    warps: int
    stages: int = 1
    rows: int = 1  # of the tile that a program owns
    columns: int = 1  # of what a program reads at a time
    matrix_rows: int = 0  # of a matrix instruction of AMD; 0: the compiler's choice
    registers: int = 0  # at most, of a thread, on NVIDIA; 0: the compiler's choice
    waves: int = 0  # that registers shall leave room for on each of AMD's four parts; 0: as above

    @property
    def options(self) -> dict[str, Any]:
        """The compiler's options, all of them pinned: defaults differ between Triton versions."""
        options: dict[str, Any] = {
            "num_warps": self.warps,
            "num_stages": self.stages,
            "enable_fp_fusion": True,
        }
        if self.matrix_rows:
            options["matrix_instr_nonkdim"] = self.matrix_rows
        if self.registers:
            options["maxnreg"] = self.registers
        if self.waves:
            options["waves_per_eu"] = self.waves
        return options


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

    A warp takes up to 32 heads, which no specialisation needs more than 72 registers for. The 64 +
    8 of the 72B model take two warps, so that a multiprocessor holds more of them.
    """
    return Launch(warps=1 if heads <= 32 else 2)


# A program writes ``columns`` pairs of values: 4 pairs a lane, 16 bytes in a 16-bit format.
PATCH_INPUT = Launch(warps=4, columns=512)

# A program owns a patch: the 1280 values of Qwen2.5-VL in vectors of 8 leave no lane with more
# than two of them.
MERGE_INPUT = Launch(warps=4)


# Tokens. The scores of a tile of 64 fit in registers on every architecture; those of 128 spill on
# sm_80 (728 bytes a thread) and not on sm_90 and sm_100; those of 256 compile soundly on none.
LONGEST_WINDOW = 128


def window_attention_launch(target: str, dtype: torch.dtype, max_seqlen: int) -> Launch:
    """A tile of ``rows`` queries and as many keys, the least power of two that holds a window.

    A warp takes 16 rows, which is what a tensor core takes: with more warps sm_80 would do each
    product twice, with fewer they spill. float32, which has no tensor core, is spread further.
    Three blocks fit a multiprocessor of AMD, where Triton 3.6 takes registers for two unless asked.
    """
    rows = max(16, triton.next_power_of_2(max_seqlen))
    warps = 8 if dtype == torch.float32 else min(8, rows // 16)
    more_waves = target.startswith("gfx") and rows == 64 and dtype != torch.float32
    return Launch(
        warps=warps,
        rows=rows,
        columns=rows,
        matrix_rows=_matrix_rows(target),
        waves=3 if more_waves else 0,
    )


def _matrix_rows(target: str) -> int:
    """AMD's instructions of 32 rows would have two warps do the same scores, 16 rows each."""
    return 16 if target.startswith("gfx") else 0


def full_attention_launch(target: str, dtype: torch.dtype, head_dim: int) -> Launch:
    """Blocks of queries and keys. 128 queries on 8 warps read keys half as often as 64 on 4.

    Heads of 128 take 97 KiB of shared memory on sm_90 and sm_100, of the 99 that every
    architecture has. With at most 128 registers a thread, two blocks fit a multiprocessor. Heads of
    80 stay below that by themselves or nearly so (sm_90: 134 at most, capped without a spill) but
    for sm_100 before Triton 3.9: 200 with 64 keys a step, where a cap spills; 118 with 32.
    """
    if dtype == torch.float32:
        return Launch(warps=8, rows=64 if head_dim <= 80 else 32, columns=32)
    fewer_keys = target.startswith("sm_10") and head_dim == 80 and TRITON < (3, 9)
    return Launch(
        warps=8,
        stages=2,
        rows=128,
        columns=32 if fewer_keys else 64,
        matrix_rows=_matrix_rows(target),
        registers=128 if target == "sm_90" and head_dim == 80 else 0,
    )


def rotate_packed_launch() -> Launch:
    """A warp takes 256 pairs, 8 a lane: 16 bytes of each half in a 16-bit format.

    The 1280 pairs of Qwen2.5-VL's 16 heads of 80 are 5 such blocks.
    """
    return Launch(warps=1, columns=256)
