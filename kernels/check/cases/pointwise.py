"""Cases of the operations that work on single numbers or rows, and what else computes them."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from ... import dispatch, operations
from .. import traffic
from ..contenders import pytorch, vllm_baseline
from ..guards import Guarded, Results, same_bits
from ..verdict import Verdict
from .case import Contender, Place
from .layouts import MERGE, PATCH, Grid, lay_out
from .truth import exact_mrope, exact_norm

HEAD_DIM = 128  # of the language models
BLOCKS: tuple[tuple[int, int, int], bool] = ((16, 24, 24), False)  # Qwen2.5-VL's sections
INTERLEAVED: tuple[tuple[int, int, int], bool] = ((24, 20, 20), True)
EPS = 1e-6


def _run(operation: str, place: Place, *arguments: Any) -> Any:
    """The backend that `dispatch` chooses, without the operation's registration around it."""
    return dispatch.implementation(operation, place.device.type)(*arguments)


def _ours(operation: str, place: Place, call: Any, moved: int) -> Contender:
    backend = dispatch.select_backend(operation, place.device.type).backend
    return Contender(f"saccade, {backend}", lambda: call, bytes=moved)


def _allocates(operation: str, place: Place) -> bool:
    """Is the result in memory that Python allocates?"""
    return dispatch.select_backend(operation, place.device.type).backend == "triton"


def _format(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class MRopeCase:
    """Queries and keys as they lie in the packed result of a projection; see `cases.TimedCase`.

    Args:
        heads: Of queries; ``kv_heads`` of keys.
        positions: Rows of the cache of angles; no row is taken twice, as `traffic` counts.
    """

    operation = "mrope"
    flops = 0

    def __init__(
        self,
        tokens: int,
        heads: int,
        kv_heads: int,
        place: Place,
        layout: tuple[tuple[int, int, int], bool] = BLOCKS,
        head_dim: int = HEAD_DIM,
        positions: int = 0,
        name: str = "",
    ) -> None:
        self.tokens, self.heads, self.kv_heads, self.place = tokens, heads, kv_heads, place
        (self.sections, self.interleaved), self.head_dim = layout, head_dim
        self.positions = positions or 3 * tokens
        turns = " by turns" if self.interleaved else ""
        self.size = (
            f"{tokens} tokens, {name}{heads}/{kv_heads} x {head_dim},"
            f" {'/'.join(map(str, self.sections))}{turns}, {_format(place.dtype)}"
        )
        number = place.dtype.itemsize
        self.bytes = tokens * traffic.mrope(heads, kv_heads, head_dim, self.sections, number)
        self.stock_bytes = tokens * traffic.stock_mrope(
            heads, kv_heads, head_dim, self.sections, number
        )

    def check(self) -> Verdict:
        """16 bits: exact. float32: a rounding of each product and of the sum."""
        widths = [n * self.head_dim for n in (self.heads, self.kv_heads, self.kv_heads)]
        packed = Guarded.around(self.place.normal(self.tokens, sum(widths)))
        query, key, value = torch.split(packed.inside, widths, 1)
        value.fill_(torch.nan)
        generator = torch.Generator().manual_seed(self.tokens)
        drawn = torch.randperm(self.positions, generator=generator)
        # A view of a longer buffer, as the engine has it.
        longer = torch.full((3, self.tokens + 5), -1)
        longer[:, : self.tokens] = drawn[: 3 * self.tokens].view(3, -1)
        where = longer.to(self.place.device)[:, : self.tokens]
        angles = 10 * torch.randn(self.positions, self.head_dim // 2, generator=generator)
        cache = torch.cat((angles.cos(), angles.sin()), 1).to(self.place.device, self.place.dtype)
        exact = [
            exact_mrope(x, where, cache, self.sections, self.interleaved) for x in (query, key)
        ]
        self.exact = torch.cat([turned for turned, _ in exact], 1)
        self.clean = (query.clone(), key.clone(), where, cache)
        rest = (cache, self.head_dim, self.sections, self.interleaved)
        _run("mrope", self.place, query, key, where, *rest)
        verdict = Verdict()
        found = torch.cat((query, key), 1)
        if found.dtype == torch.float32:
            sizes = torch.cat([size for _, size in exact], 1)
            bound = (sizes + self.exact.abs()) * (2.0**-24 * (1 + 2.0**-20))
            verdict.hold_one_rounding(found, self.exact, bound)
        else:
            verdict.hold_equal(found, self.exact)
        verdict.require(packed.is_nan, "memory around queries, keys and values was written")
        verdict.require(bool(value.isnan().all()), "values were written")
        self.call = partial(operations.mrope, query, key, where, *rest)
        return verdict

    def ours(self) -> Contender:
        """See `cases.TimedCase`."""
        return _ours(self.operation, self.place, self.call, self.bytes)

    def others(self) -> list[Contender]:
        """See `cases.TimedCase`."""
        stock = vllm_baseline.mrope(*self.clean, self.head_dim, self.sections, self.stock_bytes)
        return stock + pytorch.mrope(*self.clean, self.sections)


class PatchInputCase:
    """Rasters of several media to patch vectors; see `cases.TimedCase`.

    Args:
        grids: Of the media; of one still image where it is timed.
        frames: Of a step in time: 1 for still images, 2 for videos.
    """

    operation = "patch_input"
    flops = 0

    def __init__(self, grids: Sequence[Grid], place: Place, frames: int = 1) -> None:
        self.grids, self.place, self.frames = grids, place, frames
        self.layout = lay_out(grids, frames)
        patches = sum(self.layout.frame_lengths)
        kind = "still images" if frames == 1 else "videos"
        self.size = f"{patches} patches, {len(grids)} {kind}, {_format(place.dtype)}"
        unit = traffic.patch_input(frames, PATCH, MERGE, place.dtype.itemsize)
        self.bytes = len(self.layout.unit_order) * unit

    def check(self) -> Verdict:
        """Exact, whatever the format."""
        generator = torch.Generator().manual_seed(len(self.layout.unit_order))
        width = self.frames * PATCH * PATCH * 3
        rasters, vectors = [], []
        for steps, rows, columns in self.grids:
            shape = (steps * self.frames, rows * PATCH, columns * PATCH, 3)
            raster = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
            tiles = raster.view(
                steps, self.frames, rows // MERGE, MERGE, PATCH, columns // MERGE, MERGE, PATCH, 3
            )
            rasters.append(raster.view(-1, width))
            vectors.append(tiles.permute(0, 2, 5, 3, 6, 1, 4, 7, 8).reshape(-1, MERGE**2 * width))
        device = self.place.device
        self.unit_order = self.layout.unit_order.to(device)
        places = [place.to(device) for place in self.layout.places]
        pixels = Guarded.around(torch.cat(rasters).to(device), 255)
        units = torch.cat(vectors).to(device)[self.unit_order]
        self.exact = ((units.double() - 128) / 128).view(-1, width)
        arguments = (pixels.inside, *places, PATCH, MERGE, self.place.dtype)
        with Results() as results:
            found = _run("patch_input", self.place, *arguments)
        verdict = Verdict()
        if _allocates("patch_input", self.place):
            verdict.hold_result(results.of(found), slice(0, len(found)))
        verdict.hold_equal(found, self.exact)
        verdict.require(pixels.holds(255), "memory around pixels was written")
        self.call = partial(operations.patch_input, *arguments)
        self.pixels = pixels.inside
        return verdict

    def ours(self) -> Contender:
        """See `cases.TimedCase`."""
        return _ours(self.operation, self.place, self.call, self.bytes)

    def others(self) -> list[Contender]:
        """See `cases.TimedCase`."""
        ((_, _, columns),) = self.grids
        raster = self.pixels.view(-1, columns * PATCH, 3)
        arguments = (raster, self.unit_order, PATCH, MERGE, self.place.dtype)
        return vllm_baseline.patch_input(*arguments) + pytorch.patch_input(*arguments)


class MergeInputCase:
    """Patches of the tower before the merger's products; see `cases.TimedCase`.

    Args:
        grids: Of the media, which decide the order.
        width: Of the language model, whose tokens vLLM reorders.
        gap: Numbers between rows.
        size: Of patches, as a standard deviation; 0 for zeros.
    """

    operation = "merge_input"
    flops = 0

    def __init__(
        self,
        grids: Sequence[Grid],
        place: Place,
        width: int = 3584,
        hidden: int = 1280,
        unit: int = MERGE**2,
        gap: int = 0,
        size: float = 1.0,
        name: str = "",
    ) -> None:
        self.place, self.width, self.hidden, self.unit = place, width, hidden, unit
        self.gap, self.spread, self.unit_order = gap, size, lay_out(grids).unit_order
        units = len(self.unit_order)
        words = f"{units * unit} patches{name} of {hidden} and {gap}" if gap else (
            f"{units * unit} patches{name} of {hidden}"
        )  # fmt: skip
        self.size = f"{words}, size {size:g}, {_format(place.dtype)}"
        self.bytes = units * traffic.merge_input(hidden, unit, place.dtype.itemsize)

    def check(self) -> Verdict:
        """The truth after a few roundings of float32 and one to the format."""
        rows = len(self.unit_order) * self.unit
        numbers = self.place.normal(rows, self.hidden + self.gap) * self.spread
        numbers[:, self.hidden :] = torch.nan
        guarded = Guarded.around(numbers)
        before = guarded.memory.clone()
        x = guarded.inside[:, : self.hidden]
        weight = 1 + 0.5 * self.place.normal(self.hidden)
        unit_order = self.unit_order.to(self.place.device)
        units = exact_norm(x, weight, EPS).view(len(unit_order), -1)
        self.exact = torch.empty_like(units).index_copy_(0, unit_order, units)
        arguments = (x, weight, EPS, unit_order, self.unit)
        with Results() as results:
            found = _run("merge_input", self.place, *arguments)
        verdict = Verdict()
        if _allocates("merge_input", self.place):
            verdict.hold_result(results.of(found), slice(0, len(found)))
        verdict.hold_one_rounding(found, self.exact)
        verdict.require(same_bits(guarded.memory, before), "patches were written")
        self.arguments = arguments
        return verdict

    def ours(self) -> Contender:
        """See `cases.TimedCase`."""
        call = partial(operations.merge_input, *self.arguments)
        return _ours(self.operation, self.place, call, self.bytes)

    def others(self) -> list[Contender]:
        """See `cases.TimedCase`."""
        stock = vllm_baseline.merge_input(*self.arguments[:4], self.width)
        return stock + pytorch.merge_input(*self.arguments)
