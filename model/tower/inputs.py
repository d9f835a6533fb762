"""Inputs of the tower: the media of a call as one sequence, in tensors on the device.

`prepare_inputs` does all that needs the host: it plans the sequence and sends the plan. What
comes after looks at no value of a tensor, so it never waits for the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from saccade.model.compat import async_tensor_h2d
from saccade.model.tower.windows import plan_pixels, plan_windows


@dataclass(frozen=True)
class TowerGeometry:
    """How the tower cuts media.

    Attributes:
        patch_size: Side of a patch in pixels.
        temporal_patch_size: Frames of a patch of a video; those of images have one.
        merge_size: Side of a unit in patches.
        window: Side of a window in units.
        slot_bytes: Bytes of one frame of a patch.
    """

    patch_size: int
    temporal_patch_size: int
    merge_size: int
    window: int
    slot_bytes: int

    @property
    def unit(self) -> int:
        """Patches of a unit."""
        return self.merge_size**2

    @property
    def window_units(self) -> int:
        """Units of a whole window."""
        return self.window**2


@dataclass(frozen=True)
class Segments:
    """The segments of the sequence within which patches attend to each other.

    Attributes:
        cu_seqlens: int32 ``[segments + 1]``, cumulative patches, where segments begin and end.
        max_seqlen: Patches of the longest segment, or more.
        padding_mask: bool ``[patches, 1]``, the patches that are in no segment; None if there are
            none.
    """

    cu_seqlens: torch.Tensor
    max_seqlen: int
    padding_mask: torch.Tensor | None = None


@dataclass(frozen=True)
class TowerInputs:
    """The media of one call, on the device.

    Attributes:
        pixels: uint8 ``[patches, K]``, rasters in memory order (see `patch_input`).
        unit_offsets: int64 ``[units]``, with ``row_bytes`` and ``frame_bytes`` as in `PixelPlan`.
        unit_order: int64 ``[units]``, the unit in raster order at each place of the sequence.
        positions: int64 ``[2, units]``, row and column in its frame of each unit.
        windows: Of the layers that attend within windows.
        frames: Of the layers that attend within whole frames.
    """

    pixels: torch.Tensor
    unit_offsets: torch.Tensor
    row_bytes: torch.Tensor
    frame_bytes: torch.Tensor
    unit_order: torch.Tensor
    positions: torch.Tensor
    windows: Segments
    frames: Segments


def join_pixels(pixels: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    """Rasters one after another, ``[patches, K]``.

    Args:
        pixels: ``[patches, K]`` of each medium; media of one size come stacked, others as a list.
    """
    if isinstance(pixels, torch.Tensor):
        return pixels.flatten(0, 1)
    return pixels[0] if len(pixels) == 1 else torch.cat(pixels)


def prepare_inputs(
    pixels: torch.Tensor,
    grids: Sequence[Sequence[int]],
    geometry: TowerGeometry,
    device: torch.device,
) -> TowerInputs:
    """Plan the sequence of media of one kind, and bring it to the device.

    Args:
        pixels: uint8 ``[patches, K]``, rasters in memory order, on any device.
        grids: ``(t, h, w)`` of each medium in patches.
    """
    plan = plan_windows(grids, geometry.merge_size, geometry.window)
    where = plan_pixels(
        grids,
        plan.unit_order,
        geometry.merge_size,
        geometry.patch_size,
        frames=pixels.shape[1] // geometry.slot_bytes,
    )
    windows, frames = (
        Segments(async_tensor_h2d(ends.astype(np.int32), device), int(np.diff(ends).max()))
        for ends in (plan.window_cu_seqlens, plan.frame_cu_seqlens)
    )
    return TowerInputs(
        pixels=pixels.to(device, non_blocking=True),
        unit_offsets=async_tensor_h2d(where.unit_offsets, device),
        row_bytes=async_tensor_h2d(where.row_bytes, device),
        frame_bytes=async_tensor_h2d(where.frame_bytes, device),
        unit_order=async_tensor_h2d(plan.unit_order, device),
        positions=async_tensor_h2d(plan.positions, device),
        windows=windows,
        frames=frames,
    )
