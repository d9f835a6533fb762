"""Bytes that the kernels move, counted, are those of the formulas in
`saccade.kernels.check.traffic`, and fewer than those of vLLM's path. No access is out of bounds:
counting refuses it.
"""

import pytest
import torch
from attention_samples import draw, prepared_output
from interpreter import traced
from rasters import MERGE, PATCH, draw_rasters

from saccade.kernels.check import traffic
from saccade.kernels.merger import merge_input_kernel
from saccade.kernels.mrope import launch_mrope
from saccade.kernels.patch_embed import patch_input_kernel
from saccade.kernels.rotate_packed import launch_rotate_packed
from saccade.kernels.window_attention import launch_window_attention

TOWER = (16, 80)  # heads and their size, of every Qwen2.5-VL
SECTIONS = (16, 24, 24)
LANGUAGE = {"3B": (16, 2), "7B": (28, 4), "72B": (64, 8)}  # heads, kv_heads


def test_window_attention():
    sample = draw([64, 16, 37], *TOWER, torch.bfloat16)
    with prepared_output(sample) as out:
        tensors = {name: one for name, one in vars(sample).items() if name != "max_seqlen"}
        with traced(out=out, **tensors) as counted:
            launch_window_attention(**vars(sample))
    expected = len(sample.qkv) * traffic.window_attention(*TOWER) + sample.cu_seqlens.nbytes
    assert counted.unique == expected


def test_rotate_packed():
    sample = draw([5], *TOWER, torch.bfloat16)
    with traced(qkv=sample.qkv, cos=sample.cos, sin=sample.sin) as counted:
        launch_rotate_packed(sample.qkv, sample.cos, sample.sin)
    assert counted.unique == 5 * traffic.rotate_packed(*TOWER)


@pytest.mark.parametrize(("heads", "kv_heads"), LANGUAGE.values(), ids=LANGUAGE)
def test_mrope(heads, kv_heads):
    tokens = 3
    query = torch.randn(tokens, heads * 128).bfloat16()
    key = torch.randn(tokens, kv_heads * 128).bfloat16()
    # No row of the cache twice, so that no token profits from another's.
    positions = torch.arange(3 * tokens).view(3, tokens)
    cache = torch.randn(3 * tokens, 128).bfloat16()
    tensors = {"query": query, "key": key, "positions": positions, "cache": cache}
    with traced(**tensors) as counted:
        launch_mrope(query, key, positions, cache, 128, SECTIONS, False)
    others = sum(
        counted.loaded(name).unique + counted.stored(name).unique
        for name in ("query", "key", "positions")
    )
    expected = tokens * traffic.mrope(heads, kv_heads, 128, SECTIONS)
    assert others + counted.loaded("cache").sectors == expected


def test_merge_input():
    units, unit, hidden = 3, 4, 1280
    x = torch.randn(units * unit, hidden).bfloat16()
    weight, unit_order = torch.randn(hidden).bfloat16(), torch.tensor([2, 0, 1])
    out = torch.empty(units, unit * hidden, dtype=torch.bfloat16)
    with traced(x=x, weight=weight, unit_order=unit_order, out=out) as counted:
        merge_input_kernel[(units * unit,)](
            x, weight, unit_order, out, hidden, 1e-6, hidden, unit, 2048
        )
    assert counted.unique == units * traffic.merge_input(hidden, unit) + weight.nbytes


@pytest.mark.parametrize("frames", [1, 2], ids=["image", "video"])
def test_patch_input(frames):
    media = draw_rasters([(1, 4, 6)], frames)
    pairs = media.pixels.view(torch.uint16)
    out = torch.empty(media.pixels.shape, dtype=torch.bfloat16)
    unit_offsets, row_bytes, frame_bytes = media.places
    with traced(
        pairs=pairs,
        unit_offsets=unit_offsets,
        row_bytes=row_bytes,
        frame_bytes=frame_bytes,
        out=out,
    ) as counted:
        grid = (len(unit_offsets), frames * 5)
        patch_input_kernel[grid](pairs, *media.places, out, frames, PATCH, MERGE, 256)
    assert counted.unique == len(unit_offsets) * traffic.patch_input(frames, PATCH, MERGE)


class TestFigures:
    """The figures that documents quote, in bfloat16."""

    def test_window_attention_moves_a_third(self):
        ours, stock = traffic.window_attention(*TOWER), traffic.stock_window_attention(*TOWER)
        assert (ours, stock) == (7680 + 2560 + 320, 30880)
        assert stock / ours >= 2.9

    def test_rotation_in_place_moves_half(self):
        ours, stock = traffic.rotate_packed(*TOWER), traffic.stock_rotate_packed(*TOWER)
        assert (ours, stock) == (10560, 20640)
        assert stock / ours >= 1.9

    @pytest.mark.parametrize(
        ("model", "ours", "stock"),
        [("3B", 9560, 12632), ("7B", 16728, 19800), ("72B", 37208, 40280)],
    )
    def test_mrope(self, model, ours, stock):
        assert traffic.mrope(*LANGUAGE[model], 128, SECTIONS) == ours
        assert traffic.stock_mrope(*LANGUAGE[model], 128, SECTIONS) == stock
        assert stock / ours >= 1.05

    def test_pointwise(self):
        assert traffic.merge_input(1280, 4) == 4 * 5120 + 8
        assert traffic.patch_input(1, 14, 2) == 4 * 588 * 3 + 24
        assert traffic.patch_input(2, 14, 2) == 4 * 1176 * 3 + 24
