"""Window planning against a plain transcription of the definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.model.tower.windows import plan_pixels, plan_windows

MERGE = 2
grids = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 11), st.integers(1, 11)), min_size=1, max_size=4
)


def by_definition(
    grids: list[tuple[int, int, int]], window: int
) -> tuple[list[int], list[tuple[int, int]], list[int], list[int]]:
    unit_order, positions, windows, frames, first = [], [], [0], [0], 0
    for t, h, w in grids:
        rows, columns = h // MERGE, w // MERGE
        for _ in range(t):
            for top in range(0, rows, window):
                for left in range(0, columns, window):
                    inside = [
                        (row, column)
                        for row in range(top, min(top + window, rows))
                        for column in range(left, min(left + window, columns))
                    ]
                    for row, column in inside:
                        unit_order.append(first + row * columns + column)
                        positions.append((row, column))
                    windows.append(windows[-1] + len(inside) * MERGE**2)
            frames.append(frames[-1] + h * w)
            first += rows * columns
    return unit_order, positions, windows, frames


@given(grids=grids, window=st.integers(1, 5))
def test_plan_equals_definition(grids: list[tuple[int, int, int]], window: int) -> None:
    grids = [(t, h * MERGE, w * MERGE) for t, h, w in grids]
    unit_order, positions, windows, frames = by_definition(grids, window)
    plan = plan_windows(grids, MERGE, window)
    np.testing.assert_array_equal(plan.unit_order, unit_order)
    np.testing.assert_array_equal(plan.positions.T, positions)
    np.testing.assert_array_equal(plan.window_cu_seqlens, windows)
    np.testing.assert_array_equal(plan.frame_cu_seqlens, frames)


@pytest.mark.parametrize("grid", [(1, 8, 8), (1, 2, 2), (1, 2, 400), (768, 4, 6)])
def test_every_unit_stands_once(grid: tuple[int, int, int]) -> None:
    plan = plan_windows([grid], MERGE, 4)
    assert sorted(plan.unit_order) == list(range(np.prod(grid) // MERGE**2))
    assert plan.window_cu_seqlens[-1] == plan.frame_cu_seqlens[-1] == np.prod(grid)
    assert np.diff(plan.window_cu_seqlens).max() <= 64


@given(grids=grids, window=st.integers(1, 5), frames=st.integers(1, 2))
def test_pixels_are_found_where_the_rasters_have_them(
    grids: list[tuple[int, int, int]], window: int, frames: int
) -> None:
    grids = [(t, h * MERGE, w * MERGE) for t, h, w in grids]
    patch, side = 2, 2 * MERGE
    unit_offsets, rows, wholes, first = [], [], [], 0
    for t, h, w in grids:
        raster = np.arange(t * frames * h * w * patch**2 * 3).reshape(
            t * frames, h * patch, w * patch, 3
        )
        unit_offsets += [
            first + raster[step * frames, row, column, 0]
            for step in range(t)
            for row in range(0, h * patch, side)
            for column in range(0, w * patch, side)
        ]
        units = t * h * w // MERGE**2
        rows += [raster[0, 1, 0, 0]] * units
        wholes += [raster[0].size] * units
        first += raster.size
    unit_order = plan_windows(grids, MERGE, window).unit_order
    where = plan_pixels(grids, unit_order, MERGE, patch, frames)
    np.testing.assert_array_equal(where.unit_offsets, np.array(unit_offsets)[unit_order])
    np.testing.assert_array_equal(where.row_bytes, np.array(rows)[unit_order])
    np.testing.assert_array_equal(where.frame_bytes, np.array(wholes)[unit_order])
