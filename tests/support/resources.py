"""What compiled code needs of a GPU and does with it, read from the machine code itself."""

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import triton
from triton.compiler import CompiledKernel

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
# Tensor-core instructions: HMMA of one warp, HGMMA of four warps, UTCHMMA of a block, MFMA.
TENSOR_CORE = ("HMMA", "HGMMA", "UTCHMMA", "v_mfma")


@dataclass(frozen=True)
class Resources:
    """One compiled form of a kernel.

    Instructions are counted as they stand in the code, so what is in a loop counts once.
    """

    registers: int  # of a thread
    shared: int  # bytes of a block
    warps: int
    spills: int  # instructions (NVIDIA) or registers (AMD) that go through local memory
    stack: int  # bytes of a thread
    tensor_columns: int  # of tensor memory (sm_100)
    loads: dict[int, int] = field(default_factory=dict)  # of global memory: bits -> how many
    stores: dict[int, int] = field(default_factory=dict)
    tensor_core: dict[str, int] = field(default_factory=dict)  # instruction -> how many


def read_resources(kernel: CompiledKernel) -> Resources:
    """What the code of ``kernel`` says, for NVIDIA and AMD alike."""
    return _read_amd(kernel) if "amdgcn" in kernel.asm else _read_nvidia(kernel)


def _read_nvidia(kernel: CompiledKernel) -> Resources:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [CUOBJDUMP, "-res-usage", "-sass", file.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    usage = re.search(r"REG:(\d+) STACK:(\d+)", text)
    # An instruction stands after its address, and maybe the predicate that guards it.
    guarded = r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.a-z]*)"
    operations = Counter(re.findall(guarded, text, re.MULTILINE))
    return Resources(
        registers=int(usage[1]),
        stack=int(usage[2]),
        shared=kernel.metadata.shared,
        warps=kernel.metadata.num_warps,
        tensor_columns=kernel.metadata.tmem_size,
        # The SASS is asked, because cuobjdump's own figure (LOCAL) is 0 even for a kernel that
        # spills.
        spills=sum(count for name, count in operations.items() if _base(name) in ("LDL", "STL")),
        loads=_by_bits({n: c for n, c in operations.items() if _base(n) in ("LDG", "LDGSTS")}),
        stores=_by_bits({n: c for n, c in operations.items() if _base(n) == "STG"}),
        tensor_core={n: c for n, c in sorted(operations.items()) if _base(n) in TENSOR_CORE},
    )


def _base(operation: str) -> str:
    return operation.split(".")[0]


def _by_bits(operations: dict[str, int]) -> dict[int, int]:
    bits: Counter[int] = Counter()
    for name, count in operations.items():
        width = re.search(r"\.(?:[US]?)(8|16|64|128)\b", name)
        bits[int(width[1]) if width else 32] += count
    return dict(sorted(bits.items()))


_AMD_BITS = {"byte": 8, "short": 16, "dword": 32, "dwordx2": 64, "dwordx3": 96, "dwordx4": 128}


def _read_amd(kernel: CompiledKernel) -> Resources:
    text = kernel.asm["amdgcn"]

    def figure(name: str) -> int:
        return int(re.search(rf"^\s+\.{name}:\s+(\d+)", text, re.MULTILINE)[1])

    def accesses(kind: str) -> dict[int, int]:
        widths = re.findall(
            rf"^\s+(?:global|buffer|flat)_{kind}_(?:[us](?=byte|short))?(\w+?)(?:_d16\w*)?\s",
            text,
            re.MULTILINE,
        )
        return dict(sorted(Counter(_AMD_BITS[width] for width in widths).items()))

    matrix = Counter(re.findall(r"^\s+(v_mfma_\w+)", text, re.MULTILINE))
    return Resources(
        # From gfx90a on, accumulation registers are part of one file, and vgpr_count holds both.
        registers=figure("vgpr_count"),
        stack=figure("private_segment_fixed_size"),
        shared=kernel.metadata.shared,
        warps=kernel.metadata.num_warps,
        tensor_columns=0,
        spills=figure("vgpr_spill_count") + figure("sgpr_spill_count"),
        loads=accesses("load"),
        stores=accesses("store"),
        tensor_core=dict(sorted(matrix.items())),
    )
