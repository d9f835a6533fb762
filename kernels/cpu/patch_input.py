"""Pixels to patch vectors on the CPU: one copy of whole rows, and arithmetic on bytes.

Rasters are whole patches wide, so every row of a patch begins at a multiple of its own length. All
of ``pixels`` is then a matrix whose rows are rows of patches, and picking rows of a matrix is the
one gather that PyTorch does with plain copies of memory.
"""

import torch


def patch_input(
    pixels: torch.Tensor,
    unit_offsets: torch.Tensor,
    row_bytes: torch.Tensor,
    frame_bytes: torch.Tensor,
    patch_size: int,
    merge_size: int,
    dtype: torch.dtype,
) -> torch.Tensor:
    """See `reference.patch_input`."""
    step = 3 * patch_size  # bytes of a row of a patch; from here on, places count in these
    frames = pixels.shape[1] // (step * patch_size)
    corner, row, frame = (
        (places // step).view(-1, 1, 1, 1, 1) for places in (unit_offsets, row_bytes, frame_bytes)
    )
    rows = torch.arange(merge_size * patch_size).view(merge_size, 1, 1, patch_size)
    columns = torch.arange(merge_size).view(merge_size, 1, 1)
    each = torch.arange(frames).view(frames, 1)
    # [units, unit row, unit column, frame, row]
    places = corner + row * rows + columns + frame * each
    vectors = pixels.view(-1, step).index_select(0, places.flatten()).view(pixels.shape)
    # With its highest bit turned, a byte is x - 128 in two's complement.
    centred = vectors.bitwise_xor_(128).view(torch.int8)
    return centred.to(dtype).mul_(1.0 / 128.0)
