"""Pixels to patch vectors by the kernel: exact, so equal to the bit."""

import pytest
import torch
from interpreter import traced
from rasters import MERGE, PATCH, draw_rasters

from saccade.kernels.patch_embed import launch_patch_input, patch_input_kernel

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
STILLS = [(1, 4, 6), (1, 2, 2), (1, 10, 4), (1, 6, 14)]
CLIPS = [(2, 4, 6), (1, 2, 2), (3, 10, 2)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("grids", "frames"),
    [
        (STILLS, 1),
        (CLIPS, 2),
        (STILLS[1:2], 1),
        (CLIPS[1:2], 2),
        ([(1, 2, 4)], 3),
    ],
    ids=["stills", "videos", "one unit", "one unit of a video", "three frames a grid"],
)
def test_vectors_in_window_order(grids, frames, dtype):
    media = draw_rasters(grids, frames)
    ours = launch_patch_input(media.pixels, *media.places, PATCH, MERGE, dtype)
    assert ours.dtype == dtype
    assert torch.equal(ours.double(), (media.vectors.double() - 128) / 128)


def test_no_media():
    none = torch.zeros(0, dtype=torch.int64)
    pixels = torch.zeros(0, 588, dtype=torch.uint8)
    ours = launch_patch_input(pixels, none, none, none, PATCH, MERGE, torch.bfloat16)
    assert ours.shape == (0, 588)
    assert ours.dtype == torch.bfloat16


@pytest.mark.parametrize(("grids", "frames"), [(STILLS, 1), (CLIPS, 2)], ids=["stills", "videos"])
def test_memory_traffic(grids, frames):
    """Every byte is read once and every value written once, and nothing outside is touched."""
    media = draw_rasters(grids, frames)
    out = torch.full(media.pixels.shape, torch.nan, dtype=torch.bfloat16)
    tensors = {"pixels": media.pixels, "unit_offsets": media.unit_offsets, "out": out}
    tensors |= {"row_bytes": media.row_bytes, "frame_bytes": media.frame_bytes}
    places, pairs = media.places, media.pixels.view(torch.uint16)
    with traced(**tensors) as traffic:
        grid = (
            len(media.unit_offsets),
            frames * 5,
        )  # blocks of 256 pairs: the last one is not full
        patch_input_kernel[grid](pairs, *places, out, frames, PATCH, MERGE, 256)
    assert out.isfinite().all()
    size = media.pixels.numel()
    assert traffic.loaded("pixels").requested == traffic.loaded("pixels").unique == size
    assert traffic.stored("out").requested == traffic.stored("out").unique == 2 * size


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"dtype": torch.uint8}, TypeError, "dtype is torch.uint8"),
        ({"patch_size": 7}, ValueError, "patch_size is 7"),
        ({"patch_size": 16}, ValueError, "pixels has rows of 588"),
        ({"merge_size": 0}, ValueError, "merge_size is 0"),
        ({"merge_size": 3}, ValueError, r"pixels is \[24, 588\]"),
        ({"pixels": torch.zeros(24, 588)}, TypeError, "pixels is torch.float32"),
        ({"pixels": torch.zeros(24, 0).byte()}, ValueError, "pixels has rows of 0"),
        ({"pixels": torch.zeros(588, 24).byte().T}, ValueError, "pixels has strides"),
        (
            {"pixels": torch.zeros(24 * 588 + 1).byte()[1:].view(24, 588)},
            ValueError,
            "pixels begins at an odd address",
        ),
        ({"unit_offsets": torch.zeros(6).int()}, TypeError, "unit_offsets is torch.int32"),
        ({"unit_offsets": torch.zeros(2, 3).long()}, ValueError, r"unit_offsets is \[2, 3\]"),
        ({"row_bytes": torch.zeros(5).long()}, ValueError, r"row_bytes is \[5\]"),
        ({"frame_bytes": torch.zeros(12).long()[::2]}, ValueError, "frame_bytes has strides"),
        (
            {"frame_bytes": torch.zeros(6, device="meta").long()},
            ValueError,
            "frame_bytes is on meta",
        ),
    ],
)
def test_wrong_arguments_are_refused_by_name(changed, error, message):
    media = draw_rasters([(1, 4, 6)], 1)
    plain = {
        "pixels": media.pixels,
        "unit_offsets": media.unit_offsets,
        "row_bytes": media.row_bytes,
        "frame_bytes": media.frame_bytes,
        "patch_size": PATCH,
        "merge_size": MERGE,
        "dtype": torch.float32,
    }
    with pytest.raises(error, match=message):
        launch_patch_input(**(plain | changed))
