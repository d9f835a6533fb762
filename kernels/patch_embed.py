"""The input stage of the vision tower: uint8 rasters to patch vectors, normalisation folded away.

The reference computes ``conv3d((x / 255 - mean) / std)`` over patches of
``[channels, temporal_patch, patch, patch]``. Normalisation is affine per channel, so its scale
goes into the weight and its offset into a bias; a still image fills every temporal slot with the
same pixels, so the slots' weights add up and half of the input is never needed.

Pixels enter the product centred, as ``(x - 128) / 128``: every such value is exact in bfloat16
and float16, the scaled weights keep their magnitude, and the bias stays small.

The kernel. A patch's row is 42 bytes of a raster's row, so every second one begins at an address
that only divides by 2: two bytes are the most that can be read at once everywhere. What is
written is without gaps, and a program writes a run of it: 16 bytes a lane.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs
# (what Triton compiles has no Python types)

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl

from .launch.checks import check_beside, check_contiguous, check_dtype, check_shape
from .launch.tuning import PATCH_INPUT, TYPE_NAMES
from .reference import CENTRE

CHANNELS = 3


@triton.jit
def patch_input_kernel(
    pixel_pairs_ptr, unit_offsets_ptr, row_bytes_ptr, frame_bytes_ptr, out_ptr,
    FRAMES: tl.constexpr, PATCH_SIZE: tl.constexpr, MERGE_SIZE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Program (unit of the sequence, block of its values).

    Args:
        pixel_pairs_ptr: uint16, two bytes of the rasters each; the first byte is the low one.
        unit_offsets_ptr: As of `reference.patch_input`, with ``row_bytes_ptr`` and
            ``frame_bytes_ptr``.
        out_ptr: ``[units, MERGE_SIZE**2, FRAMES, PATCH_SIZE, 3 * PATCH_SIZE]``.
        BLOCK: Pairs of values that a program writes.
    """
    STEP: tl.constexpr = 3 * PATCH_SIZE // 2  # pairs of a row of a patch
    PATCH_PAIRS: tl.constexpr = FRAMES * PATCH_SIZE * STEP
    UNIT_PAIRS: tl.constexpr = MERGE_SIZE * MERGE_SIZE * PATCH_PAIRS
    unit = tl.program_id(0).to(tl.int64)
    pair = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    exists = pair < UNIT_PAIRS
    # Of the unit: which patch; of the patch: which frame, row of pixels and pair in the row.
    patch, in_patch = pair // PATCH_PAIRS, pair % PATCH_PAIRS
    frame, in_frame = in_patch // (PATCH_SIZE * STEP), in_patch % (PATCH_SIZE * STEP)
    row = patch // MERGE_SIZE * PATCH_SIZE + in_frame // STEP
    column = patch % MERGE_SIZE * STEP + in_frame % STEP

    unit_ptr = pixel_pairs_ptr + tl.load(unit_offsets_ptr + unit) // 2
    row_pairs = tl.load(row_bytes_ptr + unit) // 2
    frame_pairs = tl.load(frame_bytes_ptr + unit) // 2
    places = unit_ptr + frame * frame_pairs + row * row_pairs + column
    both = tl.load(places, mask=exists, other=0).to(tl.int32)
    values = tl.interleave(both & 0xFF, both >> 8)
    centred = (values - 128).to(tl.float32) * (1.0 / 128.0)

    value = tl.program_id(1) * (2 * BLOCK) + tl.arange(0, 2 * BLOCK)
    value_ptr = out_ptr + unit * (2 * UNIT_PAIRS) + value
    tl.store(value_ptr, centred.to(out_ptr.dtype.element_ty), mask=value < 2 * UNIT_PAIRS)


def launch_patch_input(
    pixels: torch.Tensor,
    unit_offsets: torch.Tensor,
    row_bytes: torch.Tensor,
    frame_bytes: torch.Tensor,
    patch_size: int,
    merge_size: int,
    dtype: torch.dtype,
) -> torch.Tensor:
    """`reference.patch_input` by Triton.

    Raises:
        TypeError: a dtype is another than the kernel knows.
        ValueError: a shape, stride, device or address does not fit, or ``patch_size`` is odd.
    """
    _check_patch_input(pixels, unit_offsets, row_bytes, frame_bytes, patch_size, merge_size, dtype)
    out = torch.empty(pixels.shape, dtype=dtype, device=pixels.device)
    if len(unit_offsets):
        frames = pixels.shape[1] // (CHANNELS * patch_size**2)
        constants = launch_constants(frames, patch_size, merge_size)
        unit_pairs = merge_size**2 * pixels.shape[1] // 2
        grid = (len(unit_offsets), triton.cdiv(unit_pairs, PATCH_INPUT.columns))
        patch_input_kernel[grid](
            pixels.view(torch.uint16), unit_offsets, row_bytes, frame_bytes, out,
            **constants, **PATCH_INPUT.options,
        )  # fmt: skip
    return out


def launch_constants(frames: int, patch_size: int, merge_size: int) -> dict[str, Any]:
    return {
        "FRAMES": frames,
        "PATCH_SIZE": patch_size,
        "MERGE_SIZE": merge_size,
        "BLOCK": PATCH_INPUT.columns,
    }


def _check_patch_input(
    pixels: torch.Tensor,
    unit_offsets: torch.Tensor,
    row_bytes: torch.Tensor,
    frame_bytes: torch.Tensor,
    patch_size: int,
    merge_size: int,
    dtype: torch.dtype,
) -> None:
    if dtype not in TYPE_NAMES:
        raise TypeError(f"dtype is {dtype}; it must be a format that kernels compute with")
    if patch_size < 2 or patch_size % 2:
        raise ValueError(f"patch_size is {patch_size}; pixels are read in pairs: it must be even")
    if merge_size < 1:
        raise ValueError(f"merge_size is {merge_size}; it must be at least one patch")
    check_dtype("pixels", pixels, [torch.uint8])
    check_shape("unit_offsets", unit_offsets, "[units]", (None,))
    units, frame = len(unit_offsets), CHANNELS * patch_size**2
    check_shape("pixels", pixels, "[patches, K]", (units * merge_size**2, None))
    if pixels.shape[1] == 0 or pixels.shape[1] % frame:
        raise ValueError(f"pixels has rows of {pixels.shape[1]}: not whole frames of {frame}")
    check_contiguous("pixels", pixels)
    if pixels.data_ptr() % 2:
        raise ValueError("pixels begins at an odd address; pixels are read in pairs")
    for name, tensor in (
        ("unit_offsets", unit_offsets),
        ("row_bytes", row_bytes),
        ("frame_bytes", frame_bytes),
    ):
        check_dtype(name, tensor, [torch.int64])
        check_shape(name, tensor, "[units]", (units,))
        check_contiguous(name, tensor)
        check_beside(name, tensor, "pixels", pixels)


def fold_normalisation(
    weight: torch.Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    rescale_factor: float,
    *,
    still: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias that take centred pixels where ``weight`` takes normalised ones.

    Args:
        weight: ``[hidden, 3, temporal_patch, patch, patch]``, as a checkpoint holds it.
        mean: Per channel, of the preprocessor configuration.
        std: Per channel, of the preprocessor configuration.
        rescale_factor: What brings uint8 into the range of ``mean`` and ``std`` (1/255).
        still: Sum the temporal slots, for media that give each patch one frame.

    Returns:
        ``[hidden, K]`` and ``[hidden]`` in the weight's dtype, ``K`` in the order of
        `patch_input`. The bias is computed from the rounded weight, so that the rounding
        error acts on the distance from the mean colour and not on the pixel itself.
    """
    means = torch.tensor(mean, dtype=torch.float64, device=weight.device)
    stds = torch.tensor(std, dtype=torch.float64, device=weight.device)
    scaled = weight.double() * (rescale_factor * CENTRE / stds).view(1, 3, 1, 1, 1)
    if still:
        scaled = scaled.sum(2, keepdim=True)
    folded = scaled.permute(0, 2, 3, 4, 1).to(weight.dtype)  # [hidden, frame, row, column, channel]
    offsets = 1.0 - means / (rescale_factor * CENTRE)
    bias = (folded.double().sum((1, 2, 3)) * offsets).sum(-1)
    return folded.flatten(1).contiguous(), bias.to(weight.dtype)
