"""The input stage of the vision tower: uint8 rasters to patch vectors, normalisation folded away.

The reference computes ``conv3d((x / 255 - mean) / std)`` over patches of
``[channels, temporal_patch, patch, patch]``. Normalisation is affine per channel, so its scale
goes into the weight and its offset into a bias; a still image fills every temporal slot with the
same pixels, so the slots' weights add up and half of the input is never needed.

Pixels enter the product centred, as ``(x - 128) / 128``: every such value is exact in bfloat16
and float16, the scaled weights keep their magnitude, and the bias stays small.
"""

from collections.abc import Iterable, Sequence

import torch

CENTRE = 128.0


def raster_to_patches(
    pixels: torch.Tensor,
    grids: Iterable[Sequence[int]],
    patch_size: int,
    merge_size: int,
) -> torch.Tensor:
    """Cut rasters into patches, ordered so that each merge unit's patches lie together.

    Args:
        pixels: uint8 ``[patches, frames_per_grid * patch_size**2 * 3]``: the rasters
            ``[frames, height, width, 3]`` of all media, one after another, in memory order.
        grids: ``(t, h, w)`` of each medium in patches; ``h`` and ``w`` divide by ``merge_size``.
        patch_size: Side of a patch in pixels.
        merge_size: Side of a merge unit in patches.

    Returns:
        uint8 ``[merge units, merge_size**2, frames_per_grid * patch_size**2 * 3]``; a patch
        vector is ordered (frame, row, column, channel).
    """
    width = pixels.shape[1]
    frames = width // (3 * patch_size * patch_size)
    pieces, start = [], 0
    for t, h, w in grids:
        raster = pixels[start : start + t * h * w].view(
            t, frames, h // merge_size, merge_size, patch_size,
            w // merge_size, merge_size, patch_size, 3,
        )  # fmt: skip
        # [t, rows of units, columns of units, unit row, unit column, frame, row, column, channel]
        units = raster.permute(0, 2, 5, 3, 6, 1, 4, 7, 8)
        pieces.append(units.reshape(-1, merge_size * merge_size, width))
        start += t * h * w
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


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
        `raster_to_patches`. The bias is computed from the rounded weight, so that the rounding
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


def centre_pixels(patches: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """uint8 to ``(x - 128) / 128`` in ``dtype``, exact for float16, bfloat16 and float32."""
    return patches.to(dtype).sub_(CENTRE).mul_(1.0 / CENTRE)
