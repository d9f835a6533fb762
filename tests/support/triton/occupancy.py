"""How many blocks of a kernel fit on one multiprocessor at once."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Nvidia:
    """Limits of a multiprocessor (CUDA C++ Programming Guide, table of technical specifications).

    Registers are handed out to warps by 256, and belong to four parts of the multiprocessor.
    """

    shared: int  # bytes
    registers: int = 65536
    warps: int = 64
    blocks: int = 32
    tensor_columns: int = 0  # of tensor memory

    def blocks_of(self, registers: int, shared: int, warps: int, tensor_columns: int) -> int:
        of_warp = math.ceil(registers * 32 / 256) * 256
        resident_warps = 4 * (self.registers // 4 // of_warp)
        of_block = math.ceil((shared + 1024) / 128) * 128  # CUDA keeps 1 KB a block for itself
        limits = [
            self.blocks,
            self.warps // warps,
            resident_warps // warps,
            self.shared // of_block,
        ]
        if tensor_columns:
            limits.append(self.tensor_columns // tensor_columns)
        return min(limits)


@dataclass(frozen=True)
class Amd:
    """Limits of a compute unit of CDNA3 (its instruction set manual, sections 3.6 and 11)."""

    shared: int = 65536  # bytes
    registers: int = 512  # a lane, of each of four parts
    waves: int = 8  # of each part

    def blocks_of(self, registers: int, shared: int, warps: int, tensor_columns: int) -> int:
        of_wave = math.ceil(max(registers, 1) / 8) * 8
        waves = 4 * min(self.waves, self.registers // of_wave)
        return min(waves // warps, self.shared // max(shared, 1))


MULTIPROCESSORS = {
    "sm_80": Nvidia(shared=164 * 1024),
    "sm_90": Nvidia(shared=228 * 1024),
    "sm_100": Nvidia(shared=228 * 1024, tensor_columns=512),
    "gfx942": Amd(),
}
