"""The ground that the other tests of this folder stand on: the interpreter computes in bfloat16 as
a GPU does, and what it says about memory is true."""

import pytest
import torch
import triton
import triton.language as tl
from interpreter import mend_bfloat16, shipped_bfloat16, traced
from touched_memory import OutOfBounds


@triton.jit
def cast_kernel(source, target, size: tl.constexpr):
    places = tl.arange(0, size)
    tl.store(target + places, tl.load(source + places).to(target.dtype.element_ty))


@triton.jit
def dot_kernel(left, right, product, size: tl.constexpr):
    rows, columns = tl.arange(0, size)[:, None] * size, tl.arange(0, size)[None, :]
    result = tl.dot(tl.load(left + rows + columns), tl.load(right + rows + columns))
    tl.store(product + rows + columns, result)


@triton.jit
def arithmetic_kernel(left, right, results, size: tl.constexpr):
    places = tl.arange(0, size)
    x, y = tl.load(left + places), tl.load(right + places)
    tl.store(results + places, x + y)
    tl.store(results + size + places, x * y)
    tl.store(results + 2 * size + places, x - y)
    tl.store(results + 3 * size + places, -x)
    tl.store(results + 4 * size + places, tl.where(x < y, x, y))
    tl.store(results + 5 * size + places, tl.zeros_like(x) + tl.sum(x.to(tl.float32)))
    tl.store(results + 6 * size + places, tl.maximum(x, 0.5))


@triton.jit
def copy_kernel(source, target, columns, shift, block: tl.constexpr):
    row, places = tl.program_id(0), tl.arange(0, block)
    mask = places < columns
    row_places = row * columns + places
    tl.store(target + row_places, tl.load(source + row_places + shift, mask=mask), mask=mask)


def cast(source: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    target = torch.empty_like(source, dtype=dtype)
    cast_kernel[(1,)](source, target, source.numel())
    return target


def product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    result = torch.empty(left.shape)
    dot_kernel[(1,)](left, right, result, len(left))
    return result


def hard_to_round() -> torch.Tensor:
    """Ties above even and odd digits, both signs, the smallest and largest numbers, NaN."""
    digits = torch.arange(0x3F800000, 0x3F800000 + 2**18, 64, dtype=torch.int32)  # from 1 on
    ties = torch.cat((digits, digits + 0x8000 - 64, digits - 2**31)).view(torch.float32)
    edges = torch.tensor([0.0, -0.0, 1e-40, 3.3895e38, torch.inf, -torch.inf, torch.nan])
    numbers = torch.cat((ties, edges))
    return torch.nn.functional.pad(numbers, (0, 2**14 - len(numbers)))


@pytest.fixture(autouse=True)
def mended():
    mend_bfloat16()


class TestBfloat16:
    def test_casts_round_to_nearest_even(self):
        wide = hard_to_round()
        torch.testing.assert_close(
            cast(wide, torch.bfloat16), wide.bfloat16(), rtol=0, atol=0, equal_nan=True
        )

    def test_casts_out_of_bfloat16_are_exact(self):
        every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
        every = every.view(torch.bfloat16)
        torch.testing.assert_close(
            cast(every, torch.float32), every.float(), rtol=0, atol=0, equal_nan=True
        )

    def test_casts_of_integers_and_halves_see_the_value(self):
        numbers = torch.arange(-128, 128)
        assert torch.equal(cast(numbers, torch.bfloat16), numbers.bfloat16())
        assert torch.equal(cast(numbers.bfloat16(), torch.int32), numbers.int())
        assert torch.equal(cast(numbers.half(), torch.bfloat16), numbers.bfloat16())

    def test_casts_as_shipped_cut_digits_off(self):
        wide = hard_to_round()[: 2**12]
        with shipped_bfloat16():
            assert not torch.equal(cast(wide, torch.bfloat16), wide.bfloat16())

    def test_dots_multiply_values(self):
        torch.manual_seed(0)
        left, right = torch.randn(2, 32, 32).bfloat16()
        exact = left.double() @ right.double()
        torch.testing.assert_close(product(left, right).double(), exact, rtol=1e-6, atol=1e-5)

    def test_dots_as_shipped_multiply_bit_patterns(self):
        torch.manual_seed(0)
        left, right = torch.randn(2, 32, 32).bfloat16()
        with shipped_bfloat16():
            wrong = product(left, right)
        assert (wrong - left.float() @ right.float()).abs().max() > 1e6

    def test_arithmetic_equals_torch(self):
        torch.manual_seed(1)
        left, right = torch.randn(2, 64).bfloat16()
        results = torch.full((7, 64), torch.nan, dtype=torch.bfloat16)
        arithmetic_kernel[(1,)](left, right, results, 64)
        expected = (
            left + right,
            left * right,
            left - right,
            -left,
            torch.minimum(left, right),
            left.float().sum().bfloat16().expand(64),
            left.clamp(min=0.5),
        )
        for result, right_one in zip(results, expected, strict=True):
            assert torch.equal(result, right_one)


class TestTraced:
    def test_requested_and_unique_bytes(self):
        source, target = torch.rand(6), torch.empty(3, 6)
        with traced(source=source, target=target) as traffic:
            copy_kernel[(1,)](source, target, 6, 0, 8)
            copy_kernel[(1,)](source, target, 6, 0, 8)
        assert traffic.loaded("source").requested == 2 * 6 * 4
        assert traffic.loaded("source").unique == 6 * 4
        assert traffic.stored("target").unique == 6 * 4
        assert traffic.stored("source").requested == 0
        assert traffic.unique == 2 * 6 * 4

    def test_one_element_too_far(self):
        source, target = torch.rand(18), torch.empty(18)
        with (
            pytest.raises(OutOfBounds, match="load of 4 bytes at byte 72 of source"),
            traced(source=source, target=target),
        ):
            copy_kernel[(3,)](source, target, 6, 1, 8)

    def test_one_element_too_early(self):
        source, target = torch.rand(18), torch.empty(18)
        with (
            pytest.raises(OutOfBounds, match="at byte -4 of source"),
            traced(source=source, target=target),
        ):
            copy_kernel[(3,)](source, target, 6, -1, 8)

    def test_stores_too(self):
        source, target = torch.rand(24), torch.empty(18)
        with (
            pytest.raises(OutOfBounds, match="store of 4 bytes"),
            traced(source=source, target=target),
        ):
            copy_kernel[(4,)](source, target, 6, 0, 8)

    def test_gaps_between_rows_are_out_of_bounds(self):
        whole = torch.rand(3, 8)
        target = torch.empty(24)
        with pytest.raises(OutOfBounds), traced(source=whole[:, :6], target=target):
            copy_kernel[(3,)](whole, target, 8, 0, 8)
        with traced(first=whole[:, :6], second=whole[:, 6:], target=target) as traffic:
            copy_kernel[(3,)](whole, target, 8, 0, 8)
        assert traffic.loaded("first").unique == 3 * 6 * 4
        assert traffic.loaded("second").unique == 3 * 2 * 4

    def test_nothing_is_traced_afterwards(self):
        source, target = torch.rand(8), torch.empty(8)
        with traced(source=source):
            pass
        copy_kernel[(1,)](source, target, 8, 0, 8)
        assert torch.equal(source, target)
