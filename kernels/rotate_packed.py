"""Rotary embedding of packed queries and keys, in place.

It reads and writes each number of q and k once: 4 words a token and channel. Copies of q and k
that are then rotated into further copies, as unfused code makes them, move 8.

Products and sums are float32, and results are rounded once to the format of ``qkv``.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs
# (what Triton compiles has no Python types)

import torch
import triton
import triton.language as tl

from .launch.checks import check_angles, check_packed
from .launch.tuning import rotate_packed_launch


@triton.jit
def rotate_packed_kernel(
    qkv_ptr, cos_ptr, sin_ptr, HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr
):
    """Program (token, block of pairs): rotates pairs of all heads of q and k in place.

    Args:
        qkv_ptr: ``[tokens, 3, HEADS, HEAD_DIM]``.
        cos_ptr: float32 ``[tokens, HEAD_DIM // 2]``; ``sin_ptr`` alike.
        BLOCK: Pairs of a program.
    """
    HALF: tl.constexpr = HEAD_DIM // 2
    token = tl.program_id(0).to(tl.int64)
    pairs = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = pairs < 2 * HEADS * HALF
    angle = token * HALF + pairs % HALF
    turn_cos = tl.load(cos_ptr + angle, mask=mask, other=0.0)
    turn_sin = tl.load(sin_ptr + angle, mask=mask, other=0.0)
    # The heads of k follow those of q without a gap.
    lower_ptr = qkv_ptr + token * (3 * HEADS * HEAD_DIM) + pairs // HALF * HEAD_DIM + pairs % HALF
    lower = tl.load(lower_ptr, mask=mask, other=0.0).to(tl.float32)
    upper = tl.load(lower_ptr + HALF, mask=mask, other=0.0).to(tl.float32)
    DTYPE: tl.constexpr = qkv_ptr.dtype.element_ty
    tl.store(lower_ptr, (lower * turn_cos - upper * turn_sin).to(DTYPE), mask=mask)
    tl.store(lower_ptr + HALF, (upper * turn_cos + lower * turn_sin).to(DTYPE), mask=mask)


def launch_rotate_packed(qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    """Rotate q and k in place; arguments as of `reference.full_attention`.

    Raises:
        TypeError: a dtype is another than the kernel knows.
        ValueError: a shape, stride or device does not fit.
    """
    check_packed(qkv)
    check_angles(cos, sin, qkv)
    tokens, _, heads, head_dim = qkv.shape
    if tokens:
        launch = rotate_packed_launch()
        pairs = heads * head_dim  # of q and of k together
        rotate_packed_kernel[(tokens, triton.cdiv(pairs, launch.columns))](
            qkv, cos, sin,
            HEADS=heads, HEAD_DIM=head_dim, BLOCK=launch.columns, **launch.options,
        )  # fmt: skip
