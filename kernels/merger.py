"""The input stage of the merger: RMSNorm of patches, and their units put back in raster order.

One program a patch: it reads the patch once, and writes it where its unit belongs. Sums and
products are float32, rounded to the format of the patches once.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs
# (what Triton compiles has no Python types)

from typing import Any

import torch
import triton
import triton.language as tl

from .launch.checks import (
    check_beside,
    check_contiguous,
    check_dtype,
    check_number,
    check_rows,
    check_shape,
)
from .launch.tuning import MERGE_INPUT

LARGEST = 8192  # values of a patch; beyond, a program's registers do not hold it


@triton.jit
def merge_input_kernel(
    x_ptr, weight_ptr, unit_order_ptr, out_ptr, stride, eps,
    HIDDEN: tl.constexpr, UNIT: tl.constexpr, PADDED_HIDDEN: tl.constexpr,
):  # fmt: skip
    """Program (patch of the sequence).

    Args:
        x_ptr: ``[patches, HIDDEN]``, rows ``stride`` apart.
        unit_order_ptr: int64 ``[units]``, the place in ``out_ptr`` of each unit of ``x_ptr``.
        out_ptr: ``[units * UNIT, HIDDEN]``.
        PADDED_HIDDEN: The power of two from ``HIDDEN`` on.
    """
    patch = tl.program_id(0)
    columns = tl.arange(0, PADDED_HIDDEN)
    exists = columns < HIDDEN
    place = tl.load(unit_order_ptr + patch // UNIT) * UNIT + patch % UNIT
    row_ptr = x_ptr + patch.to(tl.int64) * stride
    values = tl.load(row_ptr + columns, mask=exists, other=0.0).to(tl.float32)
    weights = tl.load(weight_ptr + columns, mask=exists, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(values * values, 0) / HIDDEN + eps)
    normed = values * scale * weights
    tl.store(out_ptr + place * HIDDEN + columns, normed.to(out_ptr.dtype.element_ty), mask=exists)


def launch_merge_input(
    x: torch.Tensor, weight: torch.Tensor, eps: float, unit_order: torch.Tensor, unit: int
) -> torch.Tensor:
    """`reference.merge_input` by Triton; rows of ``x`` may be apart.

    Raises:
        TypeError: a dtype is another than the kernel knows.
        ValueError: a shape, stride or device does not fit.
    """
    _check(x, weight, unit_order, unit)
    patches, hidden = x.shape
    out = x.new_empty(len(unit_order), unit * hidden)
    if patches:
        constants = launch_constants(hidden, unit)
        merge_input_kernel[(patches,)](
            x, weight, unit_order, out, x.stride(0), eps, **constants, **MERGE_INPUT.options
        )
    return out


def launch_constants(hidden: int, unit: int) -> dict[str, Any]:
    return {"HIDDEN": hidden, "UNIT": unit, "PADDED_HIDDEN": triton.next_power_of_2(hidden)}


def _check(x: torch.Tensor, weight: torch.Tensor, unit_order: torch.Tensor, unit: int) -> None:
    check_number("x", x)
    check_number("weight", weight)
    check_dtype("unit_order", unit_order, [torch.int64])
    check_shape("unit_order", unit_order, "[units]", (None,))
    if unit < 1:
        raise ValueError(f"unit is {unit}; it must be at least one patch")
    check_shape("x", x, "[units * unit, hidden]", (len(unit_order) * unit, None))
    hidden = x.shape[1]
    if not 1 <= hidden <= LARGEST:
        raise ValueError(f"x has patches of {hidden} values; they must have 1 to {LARGEST}")
    check_shape("weight", weight, "[hidden]", (hidden,))
    check_rows("x", x)
    check_contiguous("weight", weight)
    check_contiguous("unit_order", unit_order)
    check_beside("weight", weight, "x", x)
    check_beside("unit_order", unit_order, "x", x)
