"""The folded input stage against normalisation and convolution as the reference does them."""

import numpy as np
import pytest
import torch

from saccade.kernels.operations import patch_input
from saccade.kernels.patch_embed import fold_normalisation
from saccade.kernels.reference import centre_pixels
from saccade.model.tower.windows import plan_pixels

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
HIDDEN, PATCH, MERGE, TEMPORAL = 96, 14, 2, 2


def reference(rasters: list[torch.Tensor], weight: torch.Tensor) -> torch.Tensor:
    """``[patches, hidden]`` in float64, from rasters ``[frames, height, width, 3]``."""
    hidden = []
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (MEAN, STD))
    for raster in rasters:
        if raster.shape[0] == 1:
            raster = raster.repeat(TEMPORAL, 1, 1, 1)
        pixels = ((raster.double() / 255 - mean) / std).permute(3, 0, 1, 2)
        kernel = (TEMPORAL, PATCH, PATCH)
        out = torch.nn.functional.conv3d(pixels[None], weight.double(), stride=kernel)[0]
        t, h, w = out.shape[1:]
        units = out.permute(1, 2, 3, 0).reshape(t, h // MERGE, MERGE, w // MERGE, MERGE, HIDDEN)
        hidden.append(units.transpose(2, 3).reshape(t * h * w, HIDDEN))
    return torch.cat(hidden)


@pytest.mark.parametrize("frames", [1, 2, 6])
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-6), (torch.bfloat16, None), (torch.float16, None)]
)
def test_folding(frames: int, dtype: torch.dtype, bound: float | None) -> None:
    generator = torch.Generator().manual_seed(7)
    rasters = [
        torch.randint(256, (frames, h, w, 3), generator=generator, dtype=torch.uint8)
        for h, w in ((56, 84), (28, 28), (140, 56))
    ]
    shape = (HIDDEN, 3, TEMPORAL, PATCH, PATCH)
    weight = (torch.randn(shape, generator=generator) * 0.03).to(dtype)
    grids = [(max(1, r.shape[0] // 2), r.shape[1] // 14, r.shape[2] // 14) for r in rasters]
    rows = torch.cat([r.view(t * h * w, -1) for r, (t, h, w) in zip(rasters, grids, strict=True)])

    in_place = np.arange(len(rows) // MERGE**2)
    where = plan_pixels(grids, in_place, MERGE, PATCH, min(frames, TEMPORAL))
    places = map(torch.from_numpy, (where.unit_offsets, where.row_bytes, where.frame_bytes))
    patches = patch_input(rows, *places, PATCH, MERGE, dtype)
    folded, bias = fold_normalisation(weight, MEAN, STD, 1 / 255, still=frames == 1)
    ours = torch.nn.functional.linear(patches, folded, bias)

    exact = reference(rasters, weight)
    scale = exact.abs().max()
    error = (ours.double() - exact).abs()
    if bound is None:
        # Half precision: no worse than the reference order of operations in the same precision.
        normalised = [
            ((r.float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).to(dtype) for r in rasters
        ]
        stock = torch.cat([_convolve(n, weight) for n in normalised])
        assert error.mean() <= 1.25 * (stock.double() - exact).abs().mean()
    else:
        assert error.max() <= bound * scale


def _convolve(raster: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    if raster.shape[0] == 1:
        raster = raster.repeat(TEMPORAL, 1, 1, 1)
    kernel = (TEMPORAL, PATCH, PATCH)
    out = torch.nn.functional.conv3d(raster.permute(3, 0, 1, 2)[None], weight, stride=kernel)[0]
    t, h, w = out.shape[1:]
    units = out.permute(1, 2, 3, 0).reshape(t, h // MERGE, MERGE, w // MERGE, MERGE, HIDDEN)
    return units.transpose(2, 3).reshape(t * h * w, HIDDEN)


def test_centred_pixels_are_exact_in_half_precision() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    exact = (pixels.double() - 128) / 128
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        assert torch.equal(centre_pixels(pixels, dtype).double(), exact)
