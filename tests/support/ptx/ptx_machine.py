"""Runs one block of PTX as Triton compiles it for sm_80, all threads in step.

Code for the tensor cores of later generations (wgmma, tcgen05) cannot be run.
"""

import re

import numpy as np
import ptx_arithmetic as arithmetic
import ptx_tensor_core as tensor_core
from ptx_parser import Address, Immediate, Instruction, Label, Operand, Program, Register
from ptx_shared_memory import LANES, SharedMemory, Statistics
from touched_memory import Traffic


class Block:
    """One block of threads: their registers, and the instruction they are at."""

    def __init__(
        self,
        program: Program,
        parameters: list[int],
        place: tuple[int, int, int],
        shared: SharedMemory,
        traffic: Traffic,
        statistics: Statistics,
    ) -> None:
        self._program = program
        self._parameters = parameters
        self._shared = shared
        self._traffic = traffic
        self._statistics = statistics
        threads = np.arange(program.threads, dtype=np.uint32)
        self._threads = program.threads
        self._everyone = np.ones(program.threads, np.bool_)
        self._registers: dict[str, np.ndarray] = {
            "%tid.x": threads,
            "%laneid": threads % LANES,
            **{
                f"%ctaid.{axis}": np.full_like(threads, index)
                for axis, index in zip("xyz", place, strict=True)
            },
        }

    def run(self) -> None:
        program, at = self._program, 0
        while at < len(program.instructions):
            one = program.instructions[at]
            self._statistics.executed[one.opcode[0]] += self._threads // LANES
            active = self._active(one)
            at += 1
            if one.opcode[0] in ("bra", "ret"):
                if active.any() != active.all():
                    raise NotImplementedError(f"threads part ways at: {one.text}")
                if active.any() and one.opcode[0] == "ret":
                    return
                if active.any():
                    at = program.labels[_label(one)]
            else:
                getattr(self, f"_{one.opcode[0]}", self._arithmetic)(one, active)

    def _active(self, one: Instruction) -> np.ndarray:
        if one.guard is None:
            return self._everyone
        return self._registers[one.guard] ^ one.unless

    # Operands

    def _value(self, operand: Operand, type_name: str) -> np.ndarray:
        if isinstance(operand, Register):
            return arithmetic.from_bits(self._registers[operand.name], type_name)
        assert isinstance(operand, Immediate), operand
        bits = np.full(self._threads, operand.bits & (2**64 - 1), np.uint64)
        if type_name == "pred":
            return bits != 0
        return arithmetic.from_bits(bits, type_name)

    def _set(self, operand: Operand, values: np.ndarray, active: np.ndarray) -> None:
        assert isinstance(operand, Register), operand
        bits = arithmetic.to_bits(values)
        if active is not self._everyone:
            # What was never written reads as NaN.
            bits = np.where(active, bits, self._registers.get(operand.name, ~np.zeros_like(bits)))
        self._registers[operand.name] = bits

    def _addresses(self, operand: Operand) -> np.ndarray:
        assert isinstance(operand, Address), operand
        if operand.base is None:
            return np.full(self._threads, operand.offset, np.int64)
        return self._registers[operand.base].astype(np.int64) + operand.offset

    # Moves

    def _nop(self, one: Instruction, active: np.ndarray) -> None:
        """What `Program.without` leaves."""

    def _mov(self, one: Instruction, active: np.ndarray) -> None:
        target, source = one.operands
        size = one.opcode[-1]
        if isinstance(target, tuple):  # one register into its parts
            bits = self._value(source, size)
            width = bits.itemsize * 8 // len(target)
            for index, part in enumerate(target):
                piece = bits >> np.array(index * width, bits.dtype)
                self._set(part, piece.astype(f"uint{width}"), active)
        elif isinstance(source, tuple):  # parts into one register
            width = np.dtype(arithmetic.TYPES[size]).itemsize * 8 // len(source)
            bits = np.zeros(self._threads, arithmetic.TYPES[size])
            for index, part in enumerate(source):
                piece = self._value(part, f"b{width}").astype(bits.dtype)
                bits |= piece << np.array(index * width, bits.dtype)
            self._set(target, bits, active)
        else:
            self._set(target, self._value(source, size), active)

    def _selp(self, one: Instruction, active: np.ndarray) -> None:
        target, first, second, condition = one.operands
        size = one.opcode[-1]
        chosen = np.where(
            self._value(condition, "pred"), self._value(first, size), self._value(second, size)
        )
        self._set(target, chosen, active)

    def _shfl(self, one: Instruction, active: np.ndarray) -> None:
        target, source, selector, *_ = one.operands
        values = self._value(source, "b32").reshape(-1, LANES)
        lanes = np.arange(LANES)
        chosen = self._value(selector, "u32").reshape(-1, LANES).astype(np.int64)
        if one.opcode[2] == "bfly":
            chosen = lanes ^ chosen
        elif one.opcode[2] != "idx":
            raise NotImplementedError(one.text)
        if (chosen >= LANES).any() or not active.all():
            raise NotImplementedError(one.text)
        self._set(target, np.take_along_axis(values, chosen, 1).ravel(), active)

    # Arithmetic

    def _arithmetic(self, one: Instruction, active: np.ndarray) -> None:
        target, *sources = one.operands
        types = arithmetic.operand_types(one.opcode, len(sources))
        values = [self._value(*pair) for pair in zip(sources, types, strict=True)]
        self._set(target, arithmetic.compute(one.opcode, values), active)

    def _setp(self, one: Instruction, active: np.ndarray) -> None:
        target, left, right = one.operands
        if len(one.opcode) > 3:
            raise NotImplementedError(one.text)
        values = [self._value(operand, one.opcode[-1]) for operand in (left, right)]
        self._set(target, arithmetic.compare(one.opcode, *values), active)

    def _cvt(self, one: Instruction, active: np.ndarray) -> None:
        target, *sources = one.operands
        to, source_type = one.opcode[-2:]
        if not to.endswith("x2"):
            values = self._value(sources[0], source_type)
            self._set(target, arithmetic.convert(values, one.opcode), active)
            return
        single = (*one.opcode[:-2], to.removesuffix("x2"), source_type)
        high, low = (
            arithmetic.to_bits(arithmetic.convert(self._value(source, source_type), single))
            for source in sources
        )
        both = (high.astype(np.uint32) << np.uint32(16)) | low
        self._set(target, both, active)

    # Memory

    def _ld(self, one: Instruction, active: np.ndarray) -> None:
        target, address = one.operands
        if one.opcode[1] == "param":
            assert isinstance(address, Address)
            number = int(re.search(r"_param_(\d+)$", address.base or "")[1])
            bits = np.full(self._threads, self._parameters[number] & (2**64 - 1), np.uint64)
            self._set(target, arithmetic.from_bits(bits, one.opcode[-1]), active)
            return
        parts = target if isinstance(target, tuple) else (target,)
        dtype = np.dtype(arithmetic.TYPES[one.opcode[-1]])
        size = dtype.itemsize * len(parts)
        if one.opcode[1] == "global":
            data = self._load_global(self._addresses(address), size, active)
        else:
            addresses = self._addresses(address)
            self._shared.count_waves(addresses, size, active)
            data = self._shared.read(addresses, size, active, one.text)
        for part, column in zip(parts, data.view(dtype).T, strict=True):
            # A register is wider than a byte, and filled with its sign.
            self._set(part, column.astype(np.int16) if dtype == np.int8 else column, active)

    def _st(self, one: Instruction, active: np.ndarray) -> None:
        address, source = one.operands
        parts = source if isinstance(source, tuple) else (source,)
        columns = [arithmetic.to_bits(self._value(part, one.opcode[-1])) for part in parts]
        data = np.ascontiguousarray(np.stack(columns, axis=1)).view(np.uint8)
        addresses, size = self._addresses(address), data.shape[1]
        if one.opcode[1] == "global":
            self._check_alignment(addresses[active], size, one.text)
            rows = np.flatnonzero(active)
            for owned, region, places in self._traffic.touch("store", addresses[active], size):
                region.memory[places] = data[rows[owned]]
        else:
            self._shared.count_waves(addresses, size, active)
            self._shared.write(addresses, data, active, one.text)

    def _load_global(self, addresses: np.ndarray, size: int, active: np.ndarray) -> np.ndarray:
        self._check_alignment(addresses[active], size, "a load")
        data = np.zeros((self._threads, size), np.uint8)
        rows = np.flatnonzero(active)
        for owned, region, places in self._traffic.touch("load", addresses[active], size):
            data[rows[owned]] = region.memory[places]
        return data

    def _check_alignment(self, addresses: np.ndarray, size: int, text: str) -> None:
        if (addresses % size).any():
            raise IndexError(f"not aligned to its {size} bytes: {text}")

    def _cp(self, one: Instruction, active: np.ndarray) -> None:
        if one.opcode[2] == "commit_group":
            self._shared.commit()
        elif one.opcode[2] == "wait_group":
            self._shared.wait(int(self._value(one.operands[0], "u32")[0]))
        else:
            target, source, size_operand, *taken = one.operands
            size = int(self._value(size_operand, "u32")[0])
            # What is not taken from the source is zero.
            taken_sizes = self._value(taken[0], "u32") if taken else np.full(self._threads, size)
            if not np.isin(taken_sizes, (0, size)).all():
                raise NotImplementedError(one.text)
            data = self._load_global(self._addresses(source), size, active & (taken_sizes > 0))
            addresses = self._addresses(target)
            self._shared.count_waves(addresses, size, active)
            self._shared.write_later(addresses, data, active, one.text)

    # Warps and blocks together

    def _bar(self, one: Instruction, active: np.ndarray) -> None:
        if not active.all():
            raise NotImplementedError(one.text)
        if one.opcode[1] == "warp":
            self._shared.warp_barrier()
        else:
            self._shared.block_barrier()

    def _ldmatrix(self, one: Instruction, active: np.ndarray) -> None:
        targets, address = one.operands
        assert isinstance(targets, tuple)
        addresses = self._addresses(address)
        used = np.arange(self._threads) % LANES < 8 * len(targets)  # a row of 16 bytes each
        self._shared.count_waves(addresses, 16, used)
        rows = self._shared.read(addresses, 16, used, one.text)
        matrices = tensor_core.spread_matrices(rows, len(targets), "trans" in one.opcode)
        for target, bits in zip(targets, matrices, strict=True):
            self._set(target, bits, active)

    def _mma(self, one: Instruction, active: np.ndarray) -> None:
        targets, *factors, addends = one.operands
        left, right = ([self._value(part, "b32") for part in factor] for factor in factors)
        sums = [self._value(part, "f32") for part in addends]
        results = tensor_core.multiply(one.opcode, left, right, sums)
        for target, values in zip(targets, results, strict=True):
            self._set(target, values, active)


def _label(one: Instruction) -> str:
    (label,) = one.operands
    assert isinstance(label, Label)
    return label.name
