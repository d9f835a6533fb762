"""The process of `saccade bench tower`: holds both towers, compares and measures them.

The arguments of a `Job` come as JSON on the command line, the `Findings` go to its file as JSON.
Needs the environment of `stock.stock_environment`.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import isqrt
from pathlib import Path
from typing import Any

import torch

from saccade.benchmarks.common.report import say
from saccade.benchmarks.common.single_process import single_process
from saccade.benchmarks.common.workloads import draw_image
from saccade.benchmarks.tower.correctness import judge
from saccade.benchmarks.tower.parts import (
    Call,
    LinearLayers,
    attention_calls,
    first_layers,
    unprojected,
)
from saccade.kernels.check.cases.truth import exact_attention
from saccade.kernels.cpu import extension
from saccade.kernels.dispatch import Choice, select_backend

RAGGED = (18, 26)  # patches; their windows have four shapes
GATE_LAYERS = 8  # of a published tower: windows in seven, full attention in one
_ATTENTION_REPEATS = 5  # an attention layer takes milliseconds
OPERATIONS = ("window_attention", "full_attention", "patch_input", "merge_input")


@dataclass(frozen=True)
class Job:
    """What is to be measured."""

    model: str
    layers: int
    dtype: str
    patches: Sequence[int]  # square numbers
    rounds: int
    threads: int | None
    folder: str  # empty
    file: str


@dataclass
class Findings:
    """What was found out.

    Attributes:
        backends: Of our operations: the one that ran, and why.
        compiled: Whether the backends for the CPU are compiled, in words.
        errors: By size and result, of both sides.
        problems: If there are any, nothing was measured.
        seconds: By number of patches and what ran, of each side.
    """

    device: str
    threads: int
    backends: dict[str, Choice]
    compiled: str
    errors: dict[str, dict[str, float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    seconds: dict[int, dict[str, dict[str, float]]] = field(default_factory=dict)


class TowerInput:
    """One image as each side gets it from its processor."""

    def __init__(self, height: int, width: int, folder: Path, patch_size: int) -> None:
        from transformers import AutoImageProcessor

        pixels = draw_image(width * patch_size, height * patch_size, 0, height * width)
        self.patches = height * width
        self.grid = [[1, height, width]]
        self.raster = torch.from_numpy(pixels).view(self.patches, -1)  # uint8
        processor = AutoImageProcessor.from_pretrained(folder)
        # vLLM's default since 0.32: bytes, which the tower normalises.
        seen = processor(
            pixels, do_resize=False, do_rescale=False, do_normalize=False, return_tensors="pt"
        )
        assert seen["image_grid_thw"].tolist() == self.grid
        self.rows = seen["pixel_values"].to(torch.uint8)  # [patches, 2 * 588]


class Comparison:
    """Both towers, layer by layer."""

    def __init__(self, job: Job, towers: Any) -> None:
        from saccade.benchmarks.tower.models import full_layers

        self.towers = towers
        self.gate_layers = min(job.layers, GATE_LAYERS)
        self.places = {"window attention": 0, "full attention": full_layers(job.layers)[0]}
        self.device: torch.device = towers.ours.device
        self.kinds: dict[int, dict[str, dict[str, Callable[[], torch.Tensor]]]] = {}

    def image(self, height: int, width: int) -> TowerInput:
        return TowerInput(height, width, self.towers.folder, self.towers.stock.patch_size)

    def ours(self, image: TowerInput) -> torch.Tensor:
        return self.towers.ours(image.raster, image.grid)

    def stock(self, image: TowerInput) -> torch.Tensor:
        return self.towers.stock(image.rows, image.grid)

    def check(self, image: TowerInput, findings: Findings) -> None:
        """Compare the first layers' results with float32's, and attention with float64's."""
        name = " x ".join(map(str, image.grid[0][1:])) + " patches"
        layers = self.gate_layers
        with ExitStack() as stack:
            towers = (self.towers.ours, self.towers.stock, self.towers.reference)
            for tower in {id(tower): tower for tower in towers}.values():
                stack.enter_context(first_layers(tower, layers))
            with attention_calls(self.towers.reference, self.places) as exact:
                truth = self.towers.reference(image.rows, image.grid)
            with attention_calls(self.towers.stock, self.places) as stock_calls:
                stock = self.stock(image)
            with attention_calls(self.towers.ours, self.places) as our_calls:
                ours = self.ours(image)
        self._judge(f"{name}, tower of {layers} layers", ours, stock, truth, findings)
        self.kinds[image.patches] = {}
        for kind, layer in self.places.items():
            calls = {"stock": stock_calls[layer], "ours": our_calls[layer]}
            runs, qkv = self._attention(layer, calls)
            self.kinds[image.patches][kind] = runs
            named = exact[layer].named
            cos, sin = named["rotary_pos_emb_cos"], named["rotary_pos_emb_sin"]
            right = exact_attention(qkv, cos, sin, named["cu_seqlens"].tolist())
            # Ours comes last: it may overwrite what both get.
            stock, ours = (runs[way]().reshape(right.shape) for way in ("stock", "ours"))
            self._judge(f"{name}, {kind}", ours, stock, right, findings)

    def _judge(
        self,
        name: str,
        ours: torch.Tensor,
        stock: torch.Tensor,
        truth: torch.Tensor,
        findings: Findings,
    ) -> None:
        findings.errors[name], problems = judge(name, ours, stock, truth)
        findings.problems += problems

    def _attention(
        self, layer: int, calls: Mapping[str, Call]
    ) -> tuple[dict[str, Callable[[], torch.Tensor]], torch.Tensor]:
        """What each side does between its projections, on what stock's projection made.

        Returns:
            The calls, and the packed ``[tokens, 3, heads, head_dim]`` that they share.
        """
        stock, ours = (tower.blocks[layer].attn for tower in (self.towers.stock, self.towers.ours))
        projected = stock.qkv(calls["stock"].x)[0]  # [tokens, 1, 3 * heads * head_dim]
        inputs = {"stock": projected, "ours": projected[:, 0]}

        def run(attention: Any, way: str) -> Callable[[], torch.Tensor]:
            call, x = calls[way], inputs[way]

            def between() -> torch.Tensor:
                with unprojected(attention, with_bias=way == "stock"):
                    return attention(x, *call.more, **call.named)

            return between

        packed = projected.view(-1, 3, ours.num_heads, ours.head_dim).clone()
        return {"stock": run(stock, "stock"), "ours": run(ours, "ours")}, packed

    def measure(self, image: TowerInput, rounds: int) -> dict[str, dict[str, float]]:
        """Seconds of each part on each side."""
        floor = LinearLayers(self.towers.ours, image.patches)
        attention = {
            f"{kind}, {way}": run
            for kind, runs in self.kinds[image.patches].items()
            for way, run in runs.items()
        }
        tower: dict[str, Callable[[], object]] = {
            "tower, stock": lambda: self.stock(image),
            "tower, ours": lambda: self.ours(image),
            "tower, floor": floor,
        }
        found = fastest(attention, rounds * _ATTENTION_REPEATS, self.device)
        found |= fastest(tower, rounds, self.device)
        seconds: dict[str, dict[str, float]] = {}
        for name, value in found.items():
            part, _, way = name.partition(", ")
            seconds.setdefault(part, {})[way] = value
        return seconds


def fastest(
    calls: Mapping[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, float]:
    """Each call's shortest time in seconds; they take turns, every other round backwards."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name in calls if number % 2 == 0 else reversed(list(calls)):
            _wait(device)
            began = time.perf_counter()
            calls[name]()
            _wait(device)
            times[name].append(time.perf_counter() - began)
    return {name: min(taken) for name, taken in times.items()}


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


def _compare(job: Job) -> Findings:
    from saccade.benchmarks.tower.models import load_towers

    say("loading both towers")
    layers = min(job.layers, GATE_LAYERS)
    comparison = Comparison(
        job, load_towers(job.model, job.layers, layers, job.dtype, Path(job.folder))
    )
    device = comparison.device
    backends = {name: select_backend(name, device.type) for name in OPERATIONS}
    findings = Findings(str(device), torch.get_num_threads(), backends, extension.load().reason)
    images = [comparison.image(isqrt(number), isqrt(number)) for number in job.patches]
    with torch.inference_mode():
        for one in (comparison.image(*RAGGED), *images):
            say(f"comparing {one.patches} patches")
            comparison.check(one, findings)
        for one in () if findings.problems else images:
            say(f"measuring {one.patches} patches")
            findings.seconds[one.patches] = comparison.measure(one, job.rounds)
    return findings


def main(text: str) -> None:
    """Do the job."""
    job = Job(**json.loads(text))
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    with single_process():
        findings = _compare(job)
    Path(job.file).write_text(json.dumps(dataclasses.asdict(findings)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
