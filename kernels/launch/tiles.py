"""Heads cut into tiles whose widths are powers of two, as tensor cores and Triton want them.

A head of 80 padded to 128 wastes 38 % of its registers and products. As 64 + 16 it wastes
nothing; so does any head size that is the sum of two powers of two, and others waste little.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs
# (what Triton compiles has no Python types)

import triton
import triton.language as tl

SMALLEST = 16  # the least that a tensor core takes along each axis


def split(size: int) -> tuple[int, int]:
    """Widths of a wide tile and of a rest that together hold ``size`` columns; the rest may be 0.

    >>> split(80)
    (64, 16)
    """
    wide = max(SMALLEST, _power_of_two_below(size))
    return wide, _width(size - wide, SMALLEST)


def split_half(half: int) -> tuple[int, int, int]:
    """How many wide tiles hold a half of a head, their width, and the width of the rest.

    Wide tiles are of 32 at most and taken in turn: both halves of a tile of q and k are in
    registers at once, and with 64 columns sm_80 runs out of them. The rests of both halves share
    a tile, so that each may be half of the `SMALLEST`.

    >>> split_half(40)
    (1, 32, 8)
    """
    wide = min(32, max(SMALLEST, _power_of_two_below(half)))
    turns = max(1, half // wide)
    return turns, wide, _width(half - turns * wide, SMALLEST // 2)


def _power_of_two_below(size: int) -> int:
    return 1 << (size.bit_length() - 1)


def _width(size: int, smallest: int) -> int:
    return max(smallest, triton.next_power_of_2(size)) if size > 0 else 0


@triton.jit
def within(row_mask, columns, USED: tl.constexpr, WIDTH: tl.constexpr):
    """Mask of a tile ``[rows, WIDTH]`` of which ``USED`` columns are real.

    Args:
        row_mask: ``[rows, 1]``.
        columns: ``[WIDTH]``, counted from the tile's first.
    """
    return row_mask & (columns < USED)[None, :] if USED < WIDTH else row_mask


@triton.jit
def load_tile(rows_ptr, columns, row_mask, USED: tl.constexpr, WIDTH: tl.constexpr):
    """Load ``[rows, WIDTH]``, zero where there is nothing.

    Args:
        rows_ptr: Pointers to the tile's first column, ``[rows, 1]``.
    """
    return tl.load(
        rows_ptr + columns[None, :], mask=within(row_mask, columns, USED, WIDTH), other=0.0
    )


@triton.jit
def store_tile(rows_ptr, columns, row_mask, tile, USED: tl.constexpr, WIDTH: tl.constexpr):
    """Store ``[rows, WIDTH]`` in the format of the memory; arguments as of `load_tile`."""
    tl.store(
        rows_ptr + columns[None, :],
        tile.to(rows_ptr.dtype.element_ty),
        mask=within(row_mask, columns, USED, WIDTH),
    )
