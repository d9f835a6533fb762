"""Window planning: which patches the tower's attention layers put together. Pure.

The tower works in units of ``merge_size**2`` patches. Each frame of the grid is cut into windows of
``window`` by ``window`` units, row by row; windows at the right and lower edge are smaller where
the grid does not divide. All units of a window are made neighbours, so that attention over a window
is attention over a segment of the sequence. Follows section 2.1.1 of the Qwen2.5-VL report.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

IntArray: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class WindowPlan:
    """Order and cumulative lengths of the tower's sequence, for all media of one call.

    Attributes:
        unit_order: ``[units]``, the unit in raster order that stands at each place of the sequence.
        positions: ``[2, units]``, row and column in its frame of each unit of the sequence.
        window_cu_seqlens: ``[windows + 1]``, cumulative patches, where windows begin and end.
        frame_cu_seqlens: ``[frames + 1]``, cumulative patches, where frames begin and end.
    """

    unit_order: IntArray
    positions: IntArray
    window_cu_seqlens: IntArray
    frame_cu_seqlens: IntArray


def plan_windows(grids: Sequence[Sequence[int]], merge_size: int, window: int) -> WindowPlan:
    """Plan the sequence of the media with these grids.

    Args:
        grids: ``(t, h, w)`` of each medium in patches; ``h`` and ``w`` divide by ``merge_size``.
        merge_size: Side of a unit in patches.
        window: Side of a window in units.
    """
    local, columns, windows, frames = [], [], [], []
    first: list[int] = []
    units = 0
    for t, h, w in grids:
        down, across = h // merge_size, w // merge_size
        # The units of one frame, window by window.
        rows, sides = -(-down // window), -(-across // window)
        padded = np.full((rows * window, sides * window), -1, dtype=np.int64)
        padded[:down, :across] = np.arange(down * across).reshape(down, across)
        by_window = padded.reshape(rows, window, sides, window).swapaxes(1, 2).ravel()
        local += [by_window[by_window >= 0]] * t
        columns += [across] * t
        first += range(units, units + t * down * across, down * across)
        # Whole windows of a side, then what is left.
        heights, widths = (np.diff([*range(0, side, window), side]) for side in (down, across))
        windows += [np.outer(heights, widths).ravel() * merge_size**2] * t
        frames += [h * w] * t
        units += t * down * across
    unit_order = np.concatenate(local)
    sizes = np.array(frames) // merge_size**2
    return WindowPlan(
        unit_order=unit_order + np.repeat(first, sizes),
        positions=np.stack(np.divmod(unit_order, np.repeat(columns, sizes))),
        window_cu_seqlens=np.concatenate(([0], *windows)).cumsum(),
        frame_cu_seqlens=np.array([0, *frames]).cumsum(),
    )


@dataclass(frozen=True)
class PixelPlan:
    """Where the pixels of each merge unit are, in the rasters of all media of one call.

    Attributes:
        unit_offsets: ``[units]``, the byte at which the unit at each place of the sequence begins.
        row_bytes: ``[units]``, of a row of pixels of its raster.
        frame_bytes: ``[units]``, of a frame of its raster.
    """

    unit_offsets: IntArray
    row_bytes: IntArray
    frame_bytes: IntArray


def plan_pixels(
    grids: Sequence[Sequence[int]],
    unit_order: IntArray,
    merge_size: int,
    patch_size: int,
    frames: int,
) -> PixelPlan:
    """Find the units' pixels in rasters ``[t * frames, height, width, 3]`` that follow each other.

    Args:
        grids: As in `plan_windows`, which made ``unit_order``.
        frames: Frames of each step of a grid: one for still images.
    """
    unit_offsets, rows, whole, units = [], [], [], []
    first = 0
    side = merge_size * patch_size  # of a unit, in pixels
    for t, h, w in grids:
        row = w * patch_size * 3
        frame = row * h * patch_size
        steps = np.arange(first, first + t * frames * frame, frames * frame)
        down = np.arange(0, frame, side * row)
        across = np.arange(0, row, side * 3)
        unit_offsets.append((steps[:, None, None] + down[:, None] + across).ravel())
        rows.append(row)
        whole.append(frame)
        units.append(len(unit_offsets[-1]))
        first += t * frames * frame
    return PixelPlan(
        unit_offsets=np.concatenate(unit_offsets)[unit_order],
        row_bytes=np.repeat(rows, units)[unit_order],
        frame_bytes=np.repeat(whole, units)[unit_order],
    )
