"""Each kernel held against float64 on a small launch, however it is run: by the interpreter, as
compiled code, or as a mutant that must fail.

Every check takes the launcher to call, and raises AssertionError if what it makes is wrong.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from attention_samples import (
    UNTOUCHED,
    assert_close,
    attend_exactly,
    draw,
    guards,
    prepared_output,
    rotate_exactly,
)
from rasters import MERGE, PATCH, draw_rasters

from saccade.kernels.check.cases.truth import exact_mrope, exact_norm, half_steps

Launcher = Callable[..., Any]
BLOCKS = ((16, 24, 24), False)
INTERLEAVED = ((24, 20, 20), True)


def check_attention(launch: Launcher, lengths: Sequence[int], heads: int = 1) -> None:
    """Heads of 80 in bfloat16: at most 1.25 times the error of PyTorch."""
    sample = draw(lengths, heads, 80, torch.bfloat16)
    exact = attend_exactly(sample)
    untouched = sample.qkv.clone()
    with prepared_output(sample) as out:
        launch(**vars(sample))
    sample.qkv.copy_(untouched)  # full_attention rotates q and k in place
    assert_close(out, sample, exact)
    assert (guards(out) == UNTOUCHED).all(), "memory beside the result was written"


def check_rotate_packed(launch: Launcher, tokens: int = 2, heads: int = 2) -> None:
    """bfloat16: within half a step and a few roundings of float32; values are left alone."""
    sample = draw([tokens], heads, 80, torch.bfloat16)
    value = sample.qkv[:, 2].clone()
    turned = [rotate_exactly(sample.qkv[:, part], sample.cos, sample.sin) for part in (0, 1)]
    launch(sample.qkv, sample.cos, sample.sin)
    for part, exact in enumerate(turned):
        # Both products are at most as large as the pair is long, which rotation does not change.
        length = torch.stack(exact.chunk(2, dim=-1)).square().sum(0).sqrt().repeat(1, 1, 2)
        bound = half_steps(exact, torch.bfloat16) + length * 2.0**-22
        assert ((sample.qkv[:, part].double() - exact).abs() <= bound).all()
    assert torch.equal(sample.qkv[:, 2], value)


def check_mrope(
    launch: Launcher,
    sections: tuple[int, int, int],
    interleaved: bool,
    heads: tuple[int, int] = (4, 2),
    tokens: int = 2,
) -> None:
    """bfloat16: the exact value rounded to float32 and then to bfloat16, bit for bit."""
    generator = torch.Generator().manual_seed(0)
    query, key = (
        torch.randn(tokens, count * 128, generator=generator).bfloat16() for count in heads
    )
    positions = torch.randperm(3 * tokens, generator=generator).view(3, tokens)
    angles = torch.rand(3 * tokens, 64, generator=generator) * 6
    cache = torch.cat((angles.cos(), angles.sin()), dim=1).bfloat16()
    truth = [
        exact_mrope(x, positions, cache, sections, interleaved)[0].float().bfloat16()
        for x in (query, key)
    ]
    launch(query, key, positions, cache, 128, sections, interleaved)
    for found, exact in zip((query, key), truth, strict=True):
        assert torch.equal(found, exact)


def check_merge_input(launch: Launcher, units: int = 3) -> None:
    """bfloat16: rounded once, after a few roundings of float32."""
    unit, hidden, eps = 4, 1280, 1e-6
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(units * unit, hidden, generator=generator).bfloat16()
    weight = (1 + 0.5 * torch.randn(hidden, generator=generator)).bfloat16()
    unit_order = torch.arange(units).roll(1)
    normed = exact_norm(x, weight, eps)
    exact = torch.empty(units, unit * hidden, dtype=torch.double)
    exact[unit_order] = normed.view(units, -1)
    bound = exact.abs() * 2.0**-20 + half_steps(exact, torch.bfloat16)
    found = launch(x, weight, eps, unit_order, unit)
    assert ((found.double() - exact).abs() <= bound).all()


def check_patch_input(launch: Launcher, frames: int) -> None:
    """bfloat16: exact."""
    media = draw_rasters([(1, 4, 2), (1, 2, 2)], frames)
    places = [place.clone() for place in media.places]  # aligned, as allocations are
    found = launch(media.pixels, *places, PATCH, MERGE, torch.bfloat16)
    assert torch.equal(found.double(), (media.vectors.double() - 128) / 128)
