"""Rasters of several media in one call, as the tower gets them, and the patch vectors they make."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from saccade.model.tower.windows import plan_windows

PATCH, MERGE, WINDOW = 14, 2, 4


@dataclass(frozen=True)
class Rasters:
    """Media of one kind, in the order of the tower's sequence.

    Attributes:
        pixels, unit_offsets, row_bytes, frame_bytes: As of `reference.patch_input`.
        vectors: uint8 ``[patches, K]``, what the sequence is made of.
        unit_order: int64 ``[units]``, as of `plan_windows`.
    """

    pixels: torch.Tensor
    unit_offsets: torch.Tensor
    row_bytes: torch.Tensor
    frame_bytes: torch.Tensor
    vectors: torch.Tensor
    unit_order: torch.Tensor

    @property
    def places(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.unit_offsets, self.row_bytes, self.frame_bytes


def draw_rasters(grids: Sequence[tuple[int, int, int]], frames: int, seed: int = 0) -> Rasters:
    """Random pixels for media of these grids ``(t, h, w)``, each with ``frames`` a grid."""
    generator = torch.Generator().manual_seed(seed)
    width = frames * PATCH * PATCH * 3
    pixels, vectors, places, start = [], [], [], 0
    for t, h, w in grids:
        size = (t * frames, h * PATCH, w * PATCH, 3)
        raster = torch.randint(256, size, generator=generator, dtype=torch.uint8)
        pixels.append(raster.view(-1, width))
        tiles = raster.view(t, frames, h // MERGE, MERGE, PATCH, w // MERGE, MERGE, PATCH, 3)
        vectors.append(tiles.permute(0, 2, 5, 3, 6, 1, 4, 7, 8).reshape(-1, MERGE**2, width))
        frame, row, _, _ = raster.stride()
        for grid in range(t):
            for unit_row in range(h // MERGE):
                for unit_column in range(w // MERGE):
                    offset = start + grid * frames * frame
                    offset += (unit_row * row + unit_column * 3) * MERGE * PATCH
                    places.append((offset, row, frame))
        start += raster.numel()
    unit_order = torch.from_numpy(plan_windows(grids, MERGE, WINDOW).unit_order)
    unit_offsets, row_bytes, frame_bytes = torch.tensor(places)[unit_order].T.contiguous()
    return Rasters(
        torch.cat(pixels),
        unit_offsets,
        row_bytes,
        frame_bytes,
        torch.cat(vectors)[unit_order].flatten(0, 1),
        unit_order,
    )
