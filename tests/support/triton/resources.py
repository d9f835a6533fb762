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
# Tensor-core instructions: HMMA of one warp, HGMMA of four warps, UTCHMMA of a block.
TENSOR_CORE = ("HMMA", "HGMMA", "UTCHMMA")


@dataclass(frozen=True)
class Resources:
    """One compiled form of a kernel. Instructions are counted as they stand in the code."""

    registers: int  # of a thread
    shared: int  # bytes of a block
    warps: int
    spills: int  # instructions (NVIDIA) or registers (AMD) that go through local memory
    stack: int  # bytes of a thread
    tensor_columns: int  # of tensor memory (sm_100)
    loads: dict[int, int] = field(default_factory=dict)  # of global memory: bits -> how many
    stores: dict[int, int] = field(default_factory=dict)
    # Instruction -> how many, of the loop if the kernel has one, whose first and last turns some
    # architectures write out.
    tensor_core: dict[str, int] = field(default_factory=dict)


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
    line = r"^\s+/\*([0-9a-f]{4,})\*/\s+(@!?U?P\w+\s+)?([A-Z][A-Z0-9_.a-z]*)([^;]*)"
    listing, jumps = [], []
    for address, guard, name, rest in re.findall(line, text, re.MULTILINE):
        listing.append((int(address, 16), name))
        target = re.search(r"0x([0-9a-f]+)", rest)
        # An unconditional branch backwards is the way back from a rare case kept out of line.
        if _base(name) == "BRA" and target and (guard or "UP" in rest):
            jumps.append((int(address, 16), int(target[1], 16)))
    operations = Counter(name for _, name in listing)
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
        tensor_core=_in_loop([one for one in listing if _base(one[1]) in TENSOR_CORE], jumps),
    )


def _in_loop(listing: list[tuple[int, str]], jumps: list[tuple[int, int]]) -> dict[str, int]:
    """Count the operations of a loop, or all if none is in one.

    Args:
        listing: Places and names of operations.
        jumps: Places of conditional branches, and where they lead: backwards at the end of a loop.
    """
    looped = [
        name
        for place, name in listing
        if any(start <= place < end for end, start in jumps if start < end)
    ]
    return dict(sorted(Counter(looped or [name for _, name in listing]).items()))


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

    lines = text.splitlines()
    labels = {line.partition(":")[0]: place for place, line in enumerate(lines) if line[:2] == ".L"}
    listing, jumps = [], []
    for place, line in enumerate(lines):
        name, _, rest = line.strip().partition(" ")
        if name.startswith("v_mfma"):
            listing.append((place, name))
        elif name.startswith(("s_cbranch", "s_branch")):  # Triton 3.6 ends loops with the latter
            jumps.append((place, labels[rest.split()[0]]))
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
        tensor_core=_in_loop(listing, jumps),
    )
