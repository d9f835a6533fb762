"""What `saccade bench kernels` compares: every operation at the sizes of published models."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from saccade.benchmarks.kernel_gate import Verdict, exact_mrope, exact_norm
from saccade.benchmarks.kernel_stock import (
    StockAttention,
    StockMergeInput,
    StockMRope,
    StockPatchInput,
)
from saccade.benchmarks.tower_gate import exact_attention
from saccade.kernels import traffic
from saccade.kernels.full_attention import full_attention
from saccade.kernels.merger import merge_input
from saccade.kernels.mrope import mrope
from saccade.kernels.patch_embed import patch_input
from saccade.kernels.window_attention import window_attention
from saccade.model.windows import plan_pixels, plan_windows

# Of the tower, which all published sizes have.
HEADS, HEAD_DIM, HIDDEN = 16, 80, 1280
PATCH, MERGE, WINDOW = 14, 2, 4
EPS = 1e-6
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
# Of the language models.
LANGUAGE_HEAD_DIM, SECTIONS = 128, (16, 24, 24)


@dataclass(frozen=True)
class Language:
    """A language model, as far as a kernel sees it."""

    heads: int
    kv_heads: int
    width: int


@dataclass(frozen=True)
class Scale:
    """Sizes of the cases, from small to large."""

    grids: tuple[tuple[int, int], ...]  # rows and columns of patches of a still picture
    tokens: tuple[int, ...]
    positions: int  # rows of the language models' cache of angles
    languages: Mapping[str, Language]


LANGUAGES = {
    "3B": Language(16, 2, 2048),
    "7B": Language(28, 4, 3584),
    "72B": Language(64, 8, 8192),
}
PUBLISHED = Scale(((32, 32), (64, 64), (128, 128)), (1, 256, 4096), 32768, LANGUAGES)
TINY = Scale(((2, 10),), (1, 3), 64, LANGUAGES)


@dataclass(frozen=True)
class Case:
    """One operation at one size, ours and vLLM's own on equal numbers.

    Attributes:
        runs: ``ours`` and ``stock``, to be called often; some overwrite what they rotate.
        bytes: What each moves at least, by `traffic`; None where there is no formula.
        check: Are both right? To be called once, before the runs.
    """

    operation: str
    size: str
    runs: Mapping[str, Callable[[], object]]
    bytes: Mapping[str, int | None]
    check: Callable[[], Verdict]


@dataclass(frozen=True)
class Place:
    """Where and in which format."""

    device: torch.device
    dtype: torch.dtype

    def normal(self, *shape: int) -> torch.Tensor:
        """Random numbers of the format, equal on every device."""
        generator = torch.Generator().manual_seed(len(shape) + sum(shape))
        return torch.randn(shape, generator=generator).to(self.device, self.dtype)


def all_cases(scale: Scale, place: Place) -> Iterator[Callable[[], Case]]:
    """Each to be made when its turn comes, so that only one is in memory."""
    for rows, columns in scale.grids:
        yield partial(attention_case, "window_attention", rows, columns, place)
    for rows, columns in scale.grids:
        yield partial(attention_case, "full_attention", rows, columns, place)
    for name, language in scale.languages.items():
        for tokens in scale.tokens:
            yield partial(mrope_case, name, language, tokens, scale.positions, place)
    for rows, columns in scale.grids:
        yield partial(patch_input_case, rows, columns, place)
    for name, language in scale.languages.items():
        for rows, columns in scale.grids:
            yield partial(merge_input_case, name, language, rows, columns, place)


def attention_case(operation: str, rows: int, columns: int, place: Place) -> Case:
    """A picture of ``rows`` by ``columns`` patches in windows of up to 64, or whole."""
    plan = plan_windows([(1, rows, columns)], MERGE, WINDOW)
    windowed = operation == "window_attention"
    ends = (plan.window_borders if windowed else plan.frame_borders).astype(np.int32)
    tokens, longest = rows * columns, int(np.diff(ends).max())
    qkv = place.normal(tokens, 3, HEADS, HEAD_DIM)
    angles = 10 * torch.randn(
        tokens, HEAD_DIM // 2, generator=torch.Generator().manual_seed(tokens)
    )
    # Both sides get the same numbers: ours takes float32, vLLM the format.
    narrow_cos = angles.cos().to(place.device, place.dtype)
    narrow_sin = angles.sin().to(place.device, place.dtype)
    cos, sin = narrow_cos.float(), narrow_sin.float()
    borders = torch.from_numpy(ends).to(place.device)
    attend = window_attention if windowed else full_attention
    ours = partial(attend, qkv, cos, sin, borders, longest)
    stock_attention = StockAttention(HEADS, HEAD_DIM, place.dtype, ends, place.device)
    stock = partial(stock_attention, qkv, narrow_cos, narrow_sin)

    def check() -> Verdict:
        truth = exact_attention(qkv, cos, sin, ends.tolist())
        verdict, theirs = Verdict(), stock()  # ours may rotate in place: it comes last
        verdict.hold_beside(ours(), theirs, truth)
        return verdict

    number = place.dtype.itemsize
    if windowed:
        moved = traffic.window_attention(HEADS, HEAD_DIM, number)
        stock_moved = traffic.stock_window_attention(HEADS, HEAD_DIM, number)
    else:
        attended = traffic.full_attention(HEADS, HEAD_DIM, number)
        moved = attended + traffic.rotate_packed(HEADS, HEAD_DIM, number)
        stock_moved = attended + traffic.stock_rotate_packed(HEADS, HEAD_DIM, number)
    return Case(
        operation,
        f"{tokens} patches, {HEADS} x {HEAD_DIM}, vLLM's {stock_attention.backend}",
        {"ours": ours, "stock": stock},
        {"ours": tokens * moved, "stock": tokens * stock_moved},
        check,
    )


def mrope_case(name: str, language: Language, tokens: int, positions: int, place: Place) -> Case:
    """Queries and keys as they lie in the packed result of a projection, of ``tokens``."""
    widths = [n * LANGUAGE_HEAD_DIM for n in (language.heads, *[language.kv_heads] * 2)]
    packed = place.normal(tokens, sum(widths))
    query, key, value = torch.split(packed, widths, dim=1)
    rotate = StockMRope(LANGUAGE_HEAD_DIM, positions, place.dtype, SECTIONS, place.device)
    # No row of the cache twice, which is what the formulas count.
    drawn = torch.randperm(positions, generator=torch.Generator().manual_seed(tokens))
    where = drawn[: 3 * tokens].view(3, tokens).to(place.device)

    def ours() -> None:
        mrope(query, key, where, rotate.cache, LANGUAGE_HEAD_DIM, SECTIONS, False)

    def check() -> Verdict:
        turned = [exact_mrope(x, where, rotate.cache, SECTIONS) for x in (query, key)]
        theirs = rotate(where, query.clone(), key.clone())
        truth = torch.cat([*turned, value.double()], 1)  # values are to be left alone
        ours()
        verdict = Verdict()
        verdict.hold_stock(torch.cat(theirs, 1), torch.cat(turned, 1))
        verdict.hold_exact(packed, truth)
        return verdict

    heads = (language.heads, language.kv_heads, LANGUAGE_HEAD_DIM, SECTIONS, place.dtype.itemsize)
    return Case(
        "mrope",
        f"{tokens} tokens, {name}: {language.heads}/{language.kv_heads} x {LANGUAGE_HEAD_DIM}",
        {"ours": ours, "stock": partial(rotate, where, query, key)},
        {"ours": tokens * traffic.mrope(*heads), "stock": tokens * traffic.stock_mrope(*heads)},
        check,
    )


def patch_input_case(rows: int, columns: int, place: Place) -> Case:
    """A still picture of ``rows`` by ``columns`` patches."""
    grids = [(1, rows, columns)]
    order = plan_windows(grids, MERGE, WINDOW).order
    plan = plan_pixels(grids, order, MERGE, PATCH, frames=1)
    generator = torch.Generator().manual_seed(rows * columns)
    shape = (rows * PATCH, columns * PATCH, 3)
    raster = torch.randint(256, shape, generator=generator, dtype=torch.uint8).to(place.device)
    channels_first = raster.permute(2, 0, 1).contiguous()
    pixels = raster.view(rows * columns, -1)
    places = [
        torch.from_numpy(part).to(place.device)
        for part in (plan.corners, plan.row_bytes, plan.frame_bytes)
    ]
    ours = partial(patch_input, pixels, *places, PATCH, MERGE, place.dtype)
    stock = partial(
        StockPatchInput(MEAN, STD, place.dtype, place.device), channels_first, PATCH, MERGE
    )

    def check() -> Verdict:
        tiles = raster.view(rows // MERGE, MERGE, PATCH, columns // MERGE, MERGE, PATCH, 3)
        # [units, patches of a unit, row, column, channel], units in raster order
        exact = tiles.permute(0, 3, 1, 4, 2, 5, 6).flatten(0, 1).flatten(1, 2).double()
        mean, std = (exact.new_tensor(part) for part in (MEAN, STD))
        normalised = ((exact / 255 - mean) / std).flatten(0, 1).permute(0, 3, 1, 2)
        twice = normalised.unsqueeze(2).expand(-1, -1, 2, -1, -1).flatten(1)
        verdict = Verdict()
        verdict.hold_stock(stock(), twice)
        sequence = exact[torch.from_numpy(order).to(place.device)]
        verdict.hold_exact(ours(), ((sequence - 128) / 128).view(rows * columns, -1))
        return verdict

    moved = len(order) * traffic.patch_input(1, PATCH, MERGE, place.dtype.itemsize)
    runs = {"ours": ours, "stock": stock}
    size = f"{rows * columns} patches, still"
    return Case("patch_input", size, runs, {"ours": moved, "stock": None}, check)


def merge_input_case(name: str, language: Language, rows: int, columns: int, place: Place) -> Case:
    """Patches of the tower before the merger's products, for a language model of some width."""
    unit = MERGE**2
    order = plan_windows([(1, rows, columns)], MERGE, WINDOW).order
    places = torch.from_numpy(order).to(place.device)
    x, weight = place.normal(rows * columns, HIDDEN), 1 + 0.5 * place.normal(HIDDEN)
    tokens = place.normal(len(order), language.width)
    ours = partial(merge_input, x, weight, EPS, places, unit)
    stock = partial(StockMergeInput(weight, EPS), x, tokens, places.argsort())

    def check() -> Verdict:
        normed = exact_norm(x, weight, EPS)
        units = normed.view(len(order), -1)
        verdict = Verdict()
        verdict.hold_stock(stock()[0], normed)
        verdict.hold_one_rounding(ours(), torch.empty_like(units).index_copy_(0, places, units))
        return verdict

    moved = len(order) * traffic.merge_input(HIDDEN, unit, place.dtype.itemsize)
    runs = {"ours": ours, "stock": stock}
    size = f"{rows * columns} patches, {name}: {language.width} wide"
    return Case("merge_input", size, runs, {"ours": moved, "stock": None}, check)
