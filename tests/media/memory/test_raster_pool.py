"""Rasters: their memory comes back when the last that holds it is gone, and not before."""

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from saccade.media.memory import raster_pool
from saccade.media.memory.raster_pool import RasterPool
from saccade.media.types import Pixels

LARGE = (3000, 4000)


def address(raster: Pixels) -> int:
    return raster.ctypes.data


HOLDERS: dict[str, Callable[[Pixels], Any]] = {
    "itself": lambda raster: raster,
    "slice": lambda raster: raster[5:-5, ::2],
    "slice of a slice": lambda raster: raster[5:].reshape(-1)[7:],
    "tensor": torch.from_numpy,
    "view of a tensor": lambda raster: torch.from_numpy(raster).view(-1, 6)[3:].permute(1, 0),
    "array of a tensor": lambda raster: torch.from_numpy(raster)[9:].numpy()[1:],
    "buffer": memoryview,
    "buffer of a tensor": lambda raster: memoryview(torch.from_numpy(raster).view(-1).numpy())[8:],
}


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_memory_comes_back_when_the_last_holder_is_gone(hold: Callable[[Pixels], Any]) -> None:
    pool = RasterPool()
    raster = pool.take(*LARGE)
    assert raster.shape == (*LARGE, 3)
    assert raster.dtype == np.uint8
    assert raster.flags.c_contiguous
    assert raster.flags.writeable
    first, holder = address(raster), hold(raster)
    del raster
    gc.collect()
    second = pool.take(*LARGE)
    assert address(second) != first
    del holder
    assert address(pool.take(LARGE[0] - 28, LARGE[1])) == first


def test_small_rasters_are_the_allocators() -> None:
    pool = RasterPool()
    raster = pool.take(1092, 1932)
    del raster
    assert not pool._free


def test_a_small_raster_takes_no_memory_of_a_huge_one() -> None:
    pool = RasterPool()
    huge = pool.take(6000, 8000)
    first = address(huge)
    del huge
    assert address(pool.take(2400, 2400)) != first
    assert address(pool.take(6000, 8000)) == first


def test_no_more_is_kept_than_a_few() -> None:
    pool = RasterPool()
    held = [pool.take(*LARGE) for _ in range(12)]
    assert len({address(raster) for raster in held}) == 12
    held.clear()
    kept = sum(memory.size for memory in pool._free.values())
    assert 0 < kept <= raster_pool._MAX_KEPT
    again = [pool.take(*LARGE) for _ in range(12)]
    assert len({address(raster) for raster in again}) == 12


def test_what_is_kept_is_what_was_wanted_last() -> None:
    pool = RasterPool()
    for size in (LARGE, (2400, 2400)):
        held = [pool.take(*size) for _ in range(12)]
        places = {address(raster) for raster in held}
        held.clear()
        assert address(pool.take(*size)) in places
