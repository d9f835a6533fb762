"""Pixels to patch vectors in the CPU's backend: exact, so equal to the bit."""

import pytest
import torch
from rasters import MERGE, PATCH, draw_rasters

from saccade.kernels import dispatch
from saccade.kernels.cpu import operations
from saccade.kernels.operations import patch_input


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("grids", "frames"),
    [
        ([(1, 4, 6), (1, 2, 2), (1, 10, 14)], 1),
        ([(2, 4, 6), (1, 2, 2), (3, 10, 2)], 2),
        ([(1, 2, 4)], 3),
    ],
    ids=["stills", "videos", "three frames a grid"],
)
def test_vectors_in_window_order(grids, frames, dtype):
    media = draw_rasters(grids, frames)
    before = media.pixels.clone()
    ours = operations.patch_input(media.pixels, *media.places, PATCH, MERGE, dtype)
    assert ours.dtype == dtype
    assert torch.equal(ours.double(), (media.vectors.double() - 128) / 128)
    assert torch.equal(media.pixels, before)


def test_patches_and_units_of_other_sizes():
    """Two frames of 6 x 12 pixels: patches of 2, units of 3 x 3."""
    raster = torch.arange(2 * 6 * 12 * 3).remainder(251).byte().view(2, 6, 12, 3)
    unit_offsets = torch.tensor([6 * 3, 0])  # the right unit first
    row, frame = torch.full((2,), 12 * 3), torch.full((2,), 6 * 12 * 3)
    ours = operations.patch_input(
        raster.view(18, 24), unit_offsets, row, frame, 2, 3, torch.float32
    )
    for unit, left in enumerate((6, 0)):
        for patch in range(9):
            top, start = patch // 3 * 2, left + patch % 3 * 2
            vector = raster[:, top : top + 2, start : start + 2].flatten().double()
            assert torch.equal(ours[9 * unit + patch].double(), (vector - 128) / 128)


def test_it_is_what_runs_on_the_cpu(monkeypatch):
    monkeypatch.delenv("SACCADE_KERNELS", raising=False)
    assert dispatch.implementation("patch_input", "cpu") is operations.patch_input
    media = draw_rasters([(1, 4, 6)], 1)
    arguments = (media.pixels, *media.places, PATCH, MERGE, torch.bfloat16)
    torch.library.opcheck(patch_input, arguments)
