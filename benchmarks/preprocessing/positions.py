"""`saccade bench planning`: host time of MRoPE positions and window plans, beside transformers'."""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from saccade.benchmarks.common.arguments import natural, positive
from saccade.benchmarks.common.report import conclude
from saccade.model.positions import MediumPosition, mrope_positions
from saccade.model.tower.inputs import TowerGeometry, TowerInputs, prepare_inputs
from saccade.server.checkpoint.bundled import bundled_checkpoint

_EPILOG = """examples:
  saccade bench planning
  saccade bench planning --images 1 --side 4032

Everything that one request's pictures cost the host apart from their pixels: positions of the
prompt, order and cumulative lengths of the tower's sequence. Sizes are drawn between 2 x 2 patches
and --side pixels a side. Unless positions, order and lengths are those of transformers, no figures
are printed. The last line is RESULT patches= planning_ms= planning_ms_transformers= planning_ratio=
(transformers' time over ours), medians of --rounds.
"""
_PATCH, _MERGE, _WINDOW = 14, 2, 112  # pixels, patches, pixels: as published
_TEXT = 12  # tokens before each image and after the last
_FRAME_BYTES = 3 * _PATCH**2

Grids = Sequence[tuple[int, int, int]]
Planned = tuple[torch.Tensor, TowerInputs]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the benchmark's flags."""
    parser.description = "Measures planning on the host, beside transformers'."
    parser.epilog = _EPILOG
    parser.add_argument("--images", type=positive(int), default=16, help="(default: 16)")
    parser.add_argument("--side", type=positive(int), default=1288, help="pixels (default: 1288)")
    parser.add_argument("--rounds", type=positive(int), default=200, help="(default: 200)")
    parser.add_argument("--seed", type=natural, default=0, help="(default: 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to this file")


def run(args: argparse.Namespace) -> int:
    """Run the benchmark; returns the exit code."""
    grids = draw_grids(args.images, args.side, args.seed)
    patches = sum(h * w for _, h, w in grids)
    pixels = torch.empty(patches, _FRAME_BYTES, dtype=torch.uint8)
    transformers = Transformers(grids)
    problems = differences(ours(grids, pixels), transformers)
    result = None
    if not problems:
        mine = _milliseconds(lambda: ours(grids, pixels), args.rounds)
        theirs = _milliseconds(transformers.plan, max(3, args.rounds // 20))
        result = {
            "patches": patches,
            "planning_ms": mine,
            "planning_ms_transformers": theirs,
            "planning_ratio": theirs / mine,
        }
    text = f"{len(grids)} images of {patches} patches"
    return conclude("planning", result, problems, text, args.json, {"grids": grids})


def draw_grids(pictures: int, side: int, seed: int) -> list[tuple[int, int, int]]:
    """``(1, h, w)`` of each image in patches, of mixed sizes."""
    chance = random.Random(seed)
    most = max(1, side // (_PATCH * _MERGE))
    return [
        (1, _MERGE * chance.randint(1, most), _MERGE * chance.randint(1, most))
        for _ in range(pictures)
    ]


def ours(grids: Grids, pixels: torch.Tensor) -> Planned:
    """Positions ``[3, tokens]`` and the tower's plan."""
    media, token = [], 0
    for t, h, w in grids:
        grid = (t, h // _MERGE, w // _MERGE)
        media.append(MediumPosition(token + _TEXT, grid))
        token += _TEXT + grid[1] * grid[2]
    positions, _ = mrope_positions(token + _TEXT, media, 2)
    geometry = TowerGeometry(_PATCH, 2, _MERGE, _WINDOW // (_PATCH * _MERGE), _FRAME_BYTES)
    return torch.from_numpy(positions), prepare_inputs(pixels, grids, geometry, torch.device("cpu"))


class Transformers:
    """The same from transformers, with a model that has no weights."""

    def __init__(self, grids: Grids) -> None:
        from transformers import AutoConfig
        from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as library

        config = AutoConfig.from_pretrained(bundled_checkpoint())
        with torch.device("meta"):
            self._model = library.Qwen2_5_VLModel(config)
        self._library: Any = library
        self._config = config.vision_config
        self._grids = torch.tensor(grids)
        kinds: list[int] = []
        for _, h, w in grids:
            kinds += [0] * _TEXT + [1] * (h * w // _MERGE**2)
        self._kinds = torch.tensor([[*kinds, *[0] * _TEXT]])

    def plan(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Positions ``[3, tokens]``; rows and columns ``[patches, 2]``, in units' order; the units'
        order; cumulative lengths of windows and frames."""
        library, grids = self._library, self._grids
        positions, _ = self._model.get_rope_index(self._kinds, self._kinds, grids)
        places = library.get_vision_position_ids(grids, _MERGE)
        unit_order, windows = library.get_vision_window_index(grids, _MERGE, _WINDOW, _PATCH)
        frames, _ = library.get_vision_attention_seqlens(grids, self._config)
        return positions[:, 0], places, unit_order, windows, frames


def differences(planned: Planned, transformers: Transformers) -> list[str]:
    """In what the two differ."""
    positions, inputs = planned
    right, places, unit_order, windows, frames = transformers.plan()
    # Of a unit's patches the first tells where it is.
    units = places[:: _MERGE**2] // _MERGE
    pairs = {
        "positions": (positions, right),
        "order": (inputs.unit_order, unit_order),
        "rows and columns": (inputs.positions, units[unit_order].T),
        # A window that is empty has no entry of its own.
        "windows": (inputs.windows.cu_seqlens.long(), torch.unique_consecutive(windows).long()),
        "frames": (inputs.frames.cu_seqlens.long(), frames.long()),
    }
    return [
        f"{name} are not transformers'"
        for name, (mine, theirs) in pairs.items()
        if not torch.equal(mine, theirs)
    ]


def _milliseconds(call: Callable[[], object], rounds: int) -> float:
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds)
