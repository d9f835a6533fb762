"""Where the merge units of images and videos lie, in the order in which Qwen2.5-VL's tower takes
them: window by window within each frame (Qwen2.5-VL report, section 2.1.1).

The server plans this with NumPy in `saccade.model.tower.windows`; here it is written out as loops,
so that the kit depends on nothing but kernels and shares no mistake with the planner.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

PATCH, MERGE, WINDOW = 14, 2, 4  # pixels, patches and units a side

Grid = tuple[int, int, int]  # steps in time, rows and columns of patches


@dataclass(frozen=True)
class Layout:
    """Of all media of one call.

    Attributes:
        unit_order: int64 ``[units]``: the unit in raster order that stands at each place.
        window_lengths: Patches of each window; ``frame_lengths`` of each frame.
        places: int64 ``[units]`` each: ``unit_offsets``, ``row_bytes`` and ``frame_bytes`` of
            `reference.patch_input`.
    """

    unit_order: torch.Tensor
    window_lengths: list[int]
    frame_lengths: list[int]
    places: tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def lay_out(grids: Sequence[Grid], frames: int = 1) -> Layout:
    """The layout of media with these grids.

    Args:
        frames: Of a step in time: 1 for still images, 2 for videos.
    """
    unit_order: list[int] = []
    windows: list[int] = []
    whole: list[int] = []
    places: list[tuple[int, int, int]] = []
    first_unit = first_byte = 0
    for steps, rows, columns in grids:
        down, across = rows // MERGE, columns // MERGE
        row_bytes = columns * PATCH * 3
        frame_bytes = row_bytes * rows * PATCH
        for _ in range(steps):
            whole.append(rows * columns)
            for top in range(0, down, WINDOW):
                for left in range(0, across, WINDOW):
                    units = [
                        (row, column)
                        for row in range(top, min(top + WINDOW, down))
                        for column in range(left, min(left + WINDOW, across))
                    ]
                    windows.append(len(units) * MERGE**2)
                    for row, column in units:
                        unit_order.append(first_unit + row * across + column)
                        offset = (row * row_bytes + column * 3) * MERGE * PATCH
                        places.append((first_byte + offset, row_bytes, frame_bytes))
            first_unit += down * across
            first_byte += frames * frame_bytes
    unit_offsets, row_sizes, frame_sizes = torch.tensor(places).T.contiguous().unbind(0)
    return Layout(torch.tensor(unit_order), windows, whole, (unit_offsets, row_sizes, frame_sizes))
