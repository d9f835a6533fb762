"""Which cases the kit runs, those that matter most first."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from .. import dispatch
from .cases.attention import (
    TRITON_ATTENTION,
    AttentionCase,
    RotationCase,
    Segments,
    uses_flash_attention,
)
from .cases.case import Case, Place, TimedCase
from .cases.layouts import Grid, lay_out
from .cases.pointwise import BLOCKS, INTERLEAVED, MergeInputCase, MRopeCase, PatchInputCase

# Language models: heads of queries and of keys, and width.
LANGUAGES = {"3B": (16, 2, 2048), "7B": (28, 4, 3584), "72B": (64, 8, 8192)}
_CACHE_ROWS = 32768  # of the language models' cache of angles

Maker = Callable[[], Case]
TimedMaker = Callable[[], TimedCase]


def formats(device: torch.device, interpreted: bool) -> tuple[torch.dtype, ...]:
    """What kernels are checked in; times are taken in the first.

    Triton's interpreter computes wrongly in bfloat16.
    """
    if interpreted:
        return torch.float16, torch.float32
    if device.type == "cuda":
        return torch.bfloat16, torch.float16, torch.float32
    return torch.bfloat16, torch.float32


# -- Correctness ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Edges:
    """Sizes of the cases that are checked and not timed. A dry run has the same kinds, smaller.

    Attributes:
        windows: Of `window_attention`; ``segments`` of `full_attention`.
        window_shapes: Other counts and sizes of heads, each of which is compiled anew: in the
            first format only. ``segment_shapes`` alike.
        languages: Heads of queries and of keys; in other formats than the first, three of them.
        tokens: Of a step of the language model.
        images: Grids of the media of a call; ``videos`` alike.
    """

    windows: tuple[Segments, ...]
    window_shapes: tuple[Segments, ...]
    segments: tuple[Segments, ...]
    segment_shapes: tuple[Segments, ...]
    languages: tuple[tuple[int, int], ...]
    tokens: tuple[int, ...]
    images: tuple[tuple[Grid, ...], ...]
    videos: tuple[tuple[Grid, ...], ...]


_RAGGED = (64, 32, 16, 4, 1)
_EMPTY = (0, 1, 63, 0, 17, 33, 0, 12, 0)
_MANY: tuple[Grid, ...] = tuple((1, 4 + 2 * (n % 9), 6 + 2 * (n * 5 % 11)) for n in range(48))

PUBLISHED = Edges(
    windows=(
        Segments(lay_out([(1, 54, 74)]).window_lengths),  # 1024x768
        Segments([1]),
        Segments(_RAGGED, before=2, after=3),
        Segments(_EMPTY, heads=5, before=1, after=200),
        Segments(lay_out(_MANY).window_lengths),
        Segments([64, 31], size=5),
        Segments([64, 21], size=30, own_keys=True),
        Segments([65, 3]),
        Segments([128, 1]),
    ),
    window_shapes=(
        *(Segments([64, 20], heads=heads) for heads in (8, 4, 2, 1, 3)),  # tensor-parallel shares
        *(Segments([33, 5], heads=2, head_dim=size) for size in (64, 72, 96, 128)),
    ),
    segments=(
        Segments(lay_out([(1, 54, 74)]).frame_lengths),
        Segments([1]),
        Segments([*_RAGGED, 513]),
        Segments(_EMPTY, heads=5),
        Segments(lay_out(_MANY).frame_lengths),
        Segments([700, 31], size=5),
        Segments([300, 21], size=30, own_keys=True),
        Segments([16384], heads=4),
    ),
    segment_shapes=(
        *(Segments([300, 129], heads=heads) for heads in (8, 4, 2, 1, 3)),
        *(Segments([133, 5], heads=2, head_dim=size) for size in (64, 72, 96, 128)),
    ),
    languages=((16, 2), (28, 4), (64, 8), (8, 1), (14, 2), (7, 1), (32, 4), (5, 3)),
    tokens=(1, 37),
    images=(((1, 2, 2),), ((1, 54, 74),), _MANY),
    videos=(((3, 6, 10), (1, 2, 4), (2, 36, 64)),),
)
TINY = Edges(
    windows=(
        Segments([1], heads=2),
        Segments(_RAGGED, heads=2, before=2, after=3),
        Segments(_EMPTY, heads=1, before=1, after=2),
        Segments([64, 31], heads=1, size=5),
        Segments([64, 21], heads=1, size=30, own_keys=True),
        Segments([65, 3], heads=1),
    ),
    window_shapes=(Segments([20, 9], heads=5), Segments([12], heads=2, head_dim=72)),
    segments=(
        Segments([1], heads=1),
        Segments([*_RAGGED, 150], heads=1),
        Segments(_EMPTY, heads=1),
        Segments([100, 31], heads=1, size=5),
        Segments([64, 21], heads=1, size=30, own_keys=True),
    ),
    segment_shapes=(Segments([133], heads=1, head_dim=72),),
    languages=((16, 2), (28, 4), (64, 8), (5, 3)),
    tokens=(1, 3),
    images=(((1, 2, 2),), ((1, 4, 6), (1, 2, 10))),
    videos=(((2, 4, 2), (1, 2, 2)),),
)


def checks(edges: Edges, device: torch.device, dtypes: tuple[torch.dtype, ...]) -> Iterator[Maker]:
    """Each case to be made when its turn comes, so that only one is in memory."""
    for number, dtype in enumerate(dtypes):
        place = Place(device, dtype)
        languages = edges.languages if number == 0 else edges.languages[:3]
        yield from _attention(edges, place, number == 0)
        for tokens in edges.tokens:
            for heads, kv_heads in languages:
                for order in (BLOCKS, INTERLEAVED):
                    yield partial(MRopeCase, tokens, heads, kv_heads, place, order)
        for sections in ((64, 0, 0), (5, 20, 39)):
            yield partial(MRopeCase, 2, 3, 1, place, (sections, False))
        yield partial(MRopeCase, 2, 3, 1, place, ((8, 16, 16), False), 80)
        for images in edges.images:
            yield partial(PatchInputCase, images, place)
        for videos in edges.videos:
            yield partial(PatchInputCase, videos, place, 2)
        for images in edges.images:
            yield partial(MergeInputCase, images, place)
        one = [(1, 2, 4)]
        yield partial(MergeInputCase, one, place, gap=24)
        yield partial(MergeInputCase, one, place, hidden=17, unit=1, gap=3)
        yield partial(MergeInputCase, one, place, size=100)
        yield partial(MergeInputCase, one, place, size=0)


def _attention(edges: Edges, place: Place, all_shapes: bool) -> Iterator[Maker]:
    device = place.device.type
    for each in edges.windows + edges.window_shapes * all_shapes:
        yield partial(AttentionCase, "window_attention", each, place)
    segments = edges.segments + edges.segment_shapes * all_shapes
    triton = dispatch.select_backend("full_attention", device).backend == "triton"
    flash = triton and place.dtype != torch.float32 and uses_flash_attention(device, 80)
    if triton:
        for each in (*segments, Segments(_RAGGED, edges.segments[0].heads, before=2, after=3)):
            yield partial(AttentionCase, TRITON_ATTENTION, each, place)
    if flash or not triton:
        for each in segments:
            # What FlashAttention does with segments that nobody has is not ours to judge.
            if not flash or (0 not in each.lengths and not each.own_keys):
                yield partial(AttentionCase, "full_attention", each, place)
    if triton:
        for tokens, heads, head_dim in ((1, 16, 80), (7, 5, 80), (3, 2, 128), (2, 1, 72)):
            yield partial(RotationCase, tokens, heads, head_dim, place)


# -- Times ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """Sizes of the cases that are timed.

    Attributes:
        grids: Rows and columns of patches of still images, the one that says most first.
        tokens: Of a step of the language model, likewise.
        rows: Of the language models' cache of angles.
    """

    grids: tuple[tuple[int, int], ...]
    tokens: tuple[int, ...]
    rows: int


TIMED = Scale(((64, 64), (128, 128), (54, 74), (32, 32)), (4096, 256, 1), _CACHE_ROWS)
TIMED_TINY = Scale(((2, 8),), (3, 1), 64)


def timed(scale: Scale, place: Place) -> Iterator[TimedMaker]:
    """Every operation at its first size, then at the others."""
    for turn in range(max(len(scale.grids), len(scale.tokens))):
        for rows, columns in scale.grids[turn : turn + 1]:
            grid = [(1, rows, columns)]
            layout, patches = lay_out(grid), rows * columns
            size = f"{patches} patches, 16 x 80"
            windows, frames = Segments(layout.window_lengths), Segments(layout.frame_lengths)
            yield partial(AttentionCase, "window_attention", windows, place, size)
            yield partial(AttentionCase, "full_attention", frames, place, size)
            yield partial(PatchInputCase, grid, place)
            yield partial(MergeInputCase, grid, place)
        for tokens in scale.tokens[turn : turn + 1]:
            for name in ("7B", "3B", "72B"):
                heads, kv_heads, _ = LANGUAGES[name]
                yield partial(
                    MRopeCase, tokens, heads, kv_heads, place, positions=scale.rows,
                    name=f"{name}: ",
                )  # fmt: skip
