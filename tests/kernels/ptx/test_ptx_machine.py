"""The machine that runs PTX: it rounds as a GPU does, and sees races, bank conflicts and accesses
out of bounds."""

import numpy as np
import ptx_arithmetic as arithmetic
import pytest
import torch
import triton
import triton.language as tl
from ptx_launch import EmulatedKernel
from ptx_parser import Address, Immediate, Register, parse
from ptx_shared_memory import SharedMemory, Statistics
from touched_memory import OutOfBounds

OPTIONS = {"num_warps": 4, "num_stages": 1, "enable_fp_fusion": True}
THREADS = 128


@triton.jit
def sum_kernel(source, target, size, block: tl.constexpr):
    """Sum of each row: a reduction over all warps of a block."""
    row, columns = tl.program_id(0), tl.arange(0, block)
    values = tl.load(source + row * size + columns, mask=columns < size, other=0.0)
    tl.store(target + row, tl.sum(values.to(tl.float32), 0))


class TestPrograms:
    def test_a_sum(self):
        source = torch.randn(3, 1000).half()
        target = torch.full((3,), torch.nan)
        kernel = EmulatedKernel(sum_kernel)
        kernel[(3,)](source, target, 1000, block=1024, **OPTIONS)
        torch.testing.assert_close(target, source.double().sum(1).float(), rtol=1e-5, atol=1e-5)
        assert kernel.statistics.races == []

    def test_a_sum_without_barriers_races(self):
        source, target = torch.randn(1, 1000).half(), torch.empty(1)
        kernel = EmulatedKernel(sum_kernel, lambda program: program.without("bar"))
        kernel[(1,)](source, target, 1000, block=1024, **OPTIONS)
        assert kernel.statistics.races

    @pytest.mark.parametrize(("rows", "size"), [(4, 1000), (3, 1001)])
    def test_out_of_bounds(self, rows, size):
        source, target = torch.randn(3, 1000).half(), torch.empty(3)
        with pytest.raises(OutOfBounds, match=r"of (source|target)"):
            EmulatedKernel(sum_kernel)[(rows,)](source, target, size, block=1024, **OPTIONS)

    def test_what_is_not_there_cannot_be_taken_away(self):
        source, target = torch.randn(1, 1000).half(), torch.empty(1)
        kernel = EmulatedKernel(sum_kernel, lambda program: program.without("cp", "async"))
        with pytest.raises(ValueError, match=r"no cp\.async"):
            kernel[(1,)](source, target, 1000, block=1024, **OPTIONS)


class TestParser:
    TEXT = """
        .visible .entry k(.param .u64 k_param_0)
        .reqntid 64
        {
            .reg .b32 %r<3>;
            @!%p1 ld.global.v2.b32 { %r1, %r2 }, [ %rd1 + 16 ]; // a comment
            { mov.b32 %r1, 0f3F800000; }
        $L__BB0_1:
            st.shared.b32 [global_smem+4], %r1;
        }
    """

    def test_operands(self):
        program = parse(self.TEXT)
        load, move, store = program.instructions
        assert program.threads == 64
        assert program.labels == {"$L__BB0_1": 2}
        assert (load.guard, load.unless) == ("%p1", True)
        assert load.operands == ((Register("%r1"), Register("%r2")), Address("%rd1", 16))
        assert move.operands == (Register("%r1"), Immediate(0x3F800000))
        assert store.operands == (Address(None, 4), Register("%r1"))

    def test_other_text_is_refused(self):
        with pytest.raises(SyntaxError):
            parse("nothing of the kind")


class TestArithmetic:
    def test_rounding_to_bfloat16(self):
        torch.manual_seed(0)
        numbers = torch.randint(-(2**31), 2**31, (100_000,)).int().view(torch.float32)
        numbers = numbers[~numbers.isnan()]
        bits = arithmetic.convert(numbers.numpy(), ("cvt", "rn", "bf16", "f32"))
        assert (bits.view(np.int16) == numbers.bfloat16().view(torch.int16).numpy()).all()

    def test_fused_products_are_rounded_once(self):
        x = np.array([1 + 2**-12], np.float32)
        fused = arithmetic.compute(("fma", "rn", "f32"), [x, x, -x * x])
        assert fused == np.float32(float(x[0]) ** 2 - float((x * x)[0]))
        assert fused != 0

    @pytest.mark.parametrize(
        ("opcode", "values", "expected"),
        [
            (("mul", "wide", "s32"), [-3, 2**30], -3 * 2**30),
            (("mad", "lo", "s32"), [7, -5, 3], -32),
            (("shr", "s32"), [-8, 1], -4),
            (("shr", "u32"), [2**31, 31], 1),
            (("shl", "b32"), [1, 32], 0),
            (("bfe", "u32"), [0b110100, 2, 3], 0b101),
            (("bfe", "s32"), [0b110100, 2, 3], -3),
            (("div", "s32"), [-7, 2], -3),
            (("rem", "s32"), [-7, 2], -1),
            (("mul", "hi", "u32"), [2**31, 6], 3),
            (("prmt", "b32"), [0x33221100, 0x77665544, 0x7450], 0x77445500),
        ],
        ids=lambda value: ".".join(value) if isinstance(value, tuple) else None,
    )
    def test_integers(self, opcode, values, expected):
        types = arithmetic.operand_types(opcode, len(values))
        arrays = [
            np.array([value], arithmetic.TYPES[name])
            for value, name in zip(values, types, strict=True)
        ]
        assert arithmetic.compute(opcode, arrays)[0] == expected

    def test_comparisons_with_nan(self):
        one, nan = np.array([1.0], np.float32), np.array([np.nan], np.float32)
        assert not arithmetic.compare(("setp", "lt", "f32"), one, nan)[0]
        assert not arithmetic.compare(("setp", "ne", "f32"), one, nan)[0]
        assert arithmetic.compare(("setp", "neu", "f32"), one, nan)[0]

    def test_unknown_instructions_are_refused(self):
        with pytest.raises(NotImplementedError, match=r"wgmma\.f32"):
            arithmetic.compute(("wgmma", "f32"), [])


class TestSharedMemory:
    @pytest.fixture
    def shared(self):
        self.statistics = Statistics()
        return SharedMemory(4096, THREADS, self.statistics)

    def access(self, shared, kind, thread, place=0):
        """Four bytes at ``place`` by one thread."""
        active = np.arange(THREADS) == thread
        addresses = np.full(THREADS, place, np.int64)
        if kind == "read":
            return shared.read(addresses, 4, active, kind)
        data = np.full((THREADS, 4), thread, np.uint8)
        return getattr(shared, kind)(addresses, data, active, kind)

    @pytest.mark.parametrize("other", [1, 40], ids=["same warp", "other warp"])
    @pytest.mark.parametrize("kinds", [("write", "read"), ("read", "write"), ("write", "write")])
    def test_races(self, shared, kinds, other):
        self.access(shared, kinds[0], 0)
        self.access(shared, kinds[1], other)
        assert self.statistics.races

    @pytest.mark.parametrize("kinds", [("write", "read"), ("read", "write"), ("write", "write")])
    def test_a_barrier_lies_between(self, shared, kinds):
        self.access(shared, kinds[0], 0)
        shared.block_barrier()
        self.access(shared, kinds[1], 40)
        assert not self.statistics.races

    def test_a_barrier_of_the_warp_lies_between(self, shared):
        self.access(shared, "write", 0)
        shared.warp_barrier()
        self.access(shared, "read", 1)
        assert not self.statistics.races
        self.access(shared, "read", 40)
        assert self.statistics.races

    def test_reading_together_is_no_race(self, shared):
        for thread in (0, 1, 40):
            self.access(shared, "read", thread)
        assert not self.statistics.races
        self.access(shared, "write", 0)  # others have read it
        assert self.statistics.races

    def test_threads_go_on_with_their_own(self, shared):
        self.access(shared, "write", 0)
        self.access(shared, "read", 0)
        self.access(shared, "write", 0)
        assert not self.statistics.races

    @pytest.mark.parametrize(("groups", "races"), [(0, False), (1, True)])
    def test_copies_must_be_waited_for(self, shared, groups, races):
        self.access(shared, "write_later", 0)
        shared.commit()
        shared.wait(groups)
        shared.block_barrier()
        self.access(shared, "read", 40)
        assert bool(self.statistics.races) == races

    def test_copies_waited_for_need_a_barrier(self, shared):
        self.access(shared, "write_later", 0)
        shared.commit()
        shared.block_barrier()
        shared.wait(0)
        self.access(shared, "read", 40)
        assert self.statistics.races

    def test_out_of_bounds(self, shared):
        with pytest.raises(IndexError, match="4096 bytes of shared memory"):
            self.access(shared, "read", 0, 4096)
        with pytest.raises(IndexError, match="not aligned"):
            self.access(shared, "read", 0, 2)

    @pytest.mark.parametrize(
        ("stride", "size", "ratio"), [(4, 4, 1), (8, 4, 2), (128, 4, 32), (0, 4, 1), (16, 16, 1)]
    )
    def test_bank_conflicts(self, shared, stride, size, ratio):
        lanes = np.arange(32, dtype=np.int64)
        shared.count_waves(lanes * stride, size, np.ones(32, np.bool_))
        assert self.statistics.bank_ratio == ratio
