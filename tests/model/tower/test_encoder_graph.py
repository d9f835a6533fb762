"""The tower at fixed shapes, as vLLM's encoder graphs drive it, against the tower itself.

There is no GPU here. vLLM's own manager packs, pads and hands out; what stands in for a CUDA graph
calls the captured function again. That CUDA captures it, and what that gains, is not measured.
"""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import graph_replays
import numpy as np
import pytest
import torch
from child_path import SUPPORT_PATH
from hypothesis import given
from hypothesis import strategies as st
from vllm.v1.worker.encoder_cudagraph import EncoderCudaGraphManager

from saccade.demo.checkpoints.checkpoint import (
    CheckpointSpec,
    LanguageSpec,
    TowerSpec,
    write_checkpoint,
)
from saccade.kernels.dispatch import KERNELS_ENV
from saccade.model.compat import refuse_graphs
from saccade.model.tower.encoder_graph import (
    BUFFERS,
    NEVER,
    PADDING,
    GraphCapacity,
    as_inputs,
    budget_range,
    cost,
    empty_buffers,
    fill_windows,
)
from saccade.model.tower.inputs import TowerGeometry
from saccade.model.tower.windows import plan_windows

GEOMETRY = TowerGeometry(
    patch_size=14, temporal_patch_size=2, merge_size=2, window=4, slot_bytes=588
)
CPU = torch.device("cpu")
SPEC = CheckpointSpec(
    # A layer of each kind after one of each: what one leaves in spare rows, the next would meet.
    tower=TowerSpec(depth=4, hidden=64, heads=2, intermediate=96, fullatt_block_indexes=(1, 2)),
    language=LanguageSpec(layers=1),
    dtype="float32",
)


def replays(folder: Path, batches: str, **environment: str) -> dict[str, Any]:
    write_checkpoint(SPEC, folder / "checkpoint")
    out = folder / "out.pt"
    command = [
        sys.executable,
        graph_replays.__file__,
        str(out),
        str(folder / "checkpoint"),
        batches,
    ]
    subprocess.run(command, check=True, env=os.environ | environment | {"PYTHONPATH": SUPPORT_PATH})
    return torch.load(out)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return replays(tmp_path_factory.mktemp("many"), "many", **{KERNELS_ENV: "reference"})


def rounding() -> float:
    """How far two orders of the same sums may part in float32, as a share of the largest value.

    Padding gives matrices other heights, and with these the libraries add up in another order,
    each processor in its own. A sum of n products errs by about ``sqrt(n) * 2**-24`` of its size,
    its roundings being as good as independent (Higham and Mary, "A New Approach to Probabilistic
    Rounding Error Analysis", 2019). Squares of such errors add up along a path through the tower,
    and once more for the second order.
    """
    tower = SPEC.tower
    keys = [4 * 256 if layer in tower.fullatt_block_indexes else 64 for layer in range(tower.depth)]
    per_layer = 3 * tower.hidden + tower.hidden // tower.heads + tower.intermediate
    products = 1176 + tower.depth * per_layer + sum(keys) + 2 * 4 * tower.hidden
    return (2 * products) ** 0.5 * 2.0**-24


def check_equal(found: dict[str, Any]) -> None:
    for number, (replayed, eager) in enumerate(zip(found["replayed"], found["eager"], strict=True)):
        for ours, theirs in zip(replayed, eager, strict=True):
            assert ours.shape == theirs.shape
            assert (ours - theirs).abs().max() <= rounding() * theirs.abs().max(), number


def test_replays_equal_the_tower(many: dict[str, Any]) -> None:
    """Small and ragged images, several, videos; garbage where the batch before was larger."""
    check_equal(many)
    # All by graph, but for what is larger than every budget.
    assert many["by graph"] == [1, 1, 1, 4, 4, 7, 1, 1, 1, 3, 0, 1]


def test_a_changed_weight_reaches_the_graphs(many: dict[str, Any]) -> None:
    (before,), (after,) = many["replayed"][0], many["replayed"][-1]
    assert (after - before).abs().max() > 0.01 * before.abs().max()


def test_spare_rows_stay_finite(many: dict[str, Any]) -> None:
    """In every output row of every replay, though memory nobody wrote holds NaN."""
    assert many["clean"]


def test_the_captured_function_looks_at_no_value(many: dict[str, Any]) -> None:
    assert many["without values"] == [64, SPEC.language.hidden]


def test_kernels_on_a_padded_batch(tmp_path: Path) -> None:
    """All operations by Triton's interpreter."""
    found = replays(tmp_path, "few", **{KERNELS_ENV: "triton", "TRITON_INTERPRET": "1"})
    check_equal(found)
    assert found["by graph"] == [1, 2, 1]
    assert found["clean"]


@pytest.mark.parametrize("most_tokens", [1, 63, 64, 100, 8192, 16385])
def test_budgets_cover_every_size(most_tokens: int) -> None:
    smallest, largest = budget_range(most_tokens)
    budgets = EncoderCudaGraphManager._generate_budgets(smallest, largest)
    assert min(budgets) == min(64, most_tokens)
    assert max(budgets) == most_tokens


sides = st.one_of(st.integers(1, 9), st.integers(1, 60))
media = st.lists(st.tuples(st.integers(1, 9), sides, sides), min_size=1, max_size=6)


@given(units=media, modality=st.sampled_from(["image", "video"]), spare=st.integers(0, 200))
def test_what_a_budget_pays_for_fits(
    units: list[tuple[int, int, int]], modality: str, spare: int
) -> None:
    every = [(1 if modality == "image" else t, 2 * h, 2 * w) for t, h, w in units]
    costs = {grid: cost(grid, modality, GEOMETRY) for grid in every}
    grids = [grid for grid in every if costs[grid] < NEVER]
    if not grids:
        return
    budget = sum(costs[grid] for grid in grids) + spare
    capacity = GraphCapacity.of(budget, modality, GEOMETRY, most_items=len(grids))
    plan = plan_windows(grids, GEOMETRY.merge_size, GEOMETRY.window)
    assert len(plan.unit_order) <= capacity.units == budget
    assert len(plan.frame_cu_seqlens) <= capacity.frames + 1

    real = len(plan.window_cu_seqlens)
    cu_seqlens = torch.full((capacity.windows + 1,), -7, dtype=torch.int32)
    PADDING["window_cu_seqlens"](cu_seqlens, torch.from_numpy(plan.window_cu_seqlens).int())
    filled = fill_windows(cu_seqlens, 4 * budget, 64).numpy()
    np.testing.assert_array_equal(filled[:real], plan.window_cu_seqlens)
    assert filled[-1] == 4 * budget
    assert 0 <= np.diff(filled).min() <= np.diff(filled).max() <= 64


@pytest.mark.parametrize(
    ("modality", "width", "max_seqlen"), [("image", 588, 4000), ("video", 1176, 3072)]
)
def test_shapes_follow_from_the_budget(modality: str, width: int, max_seqlen: int) -> None:
    capacity = GraphCapacity.of(1000, modality, GEOMETRY, most_items=5)
    buffers = empty_buffers(capacity, modality, GEOMETRY, CPU)
    assert set(buffers) == set(BUFFERS)
    assert buffers["pixels"].shape == (4000, width)
    inputs = as_inputs(buffers, GEOMETRY)
    assert (inputs.windows.max_seqlen, inputs.frames.max_seqlen) == (64, max_seqlen)
    assert len(inputs.frames.cu_seqlens) == {"image": 6, "video": 17}[modality]
    assert inputs.windows.cu_seqlens[-1] == 4000
    assert inputs.frames.padding_mask is not None
    assert inputs.frames.padding_mask.all()


def test_a_video_of_very_large_frames_is_left_to_the_tower() -> None:
    assert cost((1, 2, 2 * 769), "video", GEOMETRY) == NEVER
    assert cost((1, 2, 2 * 769), "image", GEOMETRY) < NEVER


@pytest.mark.parametrize("count", [1, 3, 8])
def test_padding_leaves_nothing_of_the_batch_before(count: int) -> None:
    batch = torch.randperm(count) if count > 1 else torch.zeros(1, dtype=torch.int64)
    unit_order = torch.full((8,), 99)
    PADDING["unit_order"](unit_order, batch)
    assert unit_order[:count].tolist() == batch.tolist()
    assert unit_order[count:].tolist() == list(range(count, 8))
    positions = torch.full((2, 8), 99)
    PADDING["positions"](positions, torch.stack([batch, batch]))
    assert positions[1].tolist() == batch.tolist() + [0] * (8 - count)
    cu_seqlens = torch.full((8,), 99, dtype=torch.int32)
    PADDING["frame_cu_seqlens"](cu_seqlens, torch.arange(count, dtype=torch.int32) * 4)
    assert cu_seqlens[count:].tolist() == [4 * (count - 1)] * (8 - count)


def test_the_option_needs_a_gpu(many: dict[str, Any]) -> None:
    assert many["refusal"] == "compilation option cudagraph_mm_encoder needs a GPU; this is cpu"


@pytest.mark.parametrize(
    ("frames", "tower_lora", "kernels", "message"),
    [
        (None, False, "reference", "SACCADE_KERNELS must be auto"),
        (512, False, "auto", "encoder_cudagraph_max_frames_per_batch is not supported"),
        (None, True, "auto", "exclude each other"),
        (None, False, "auto", None),
    ],
)
def test_what_graphs_cannot_hold_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    frames: int | None,
    tower_lora: bool,
    kernels: str,
    message: str | None,
) -> None:
    monkeypatch.setenv(KERNELS_ENV, kernels)
    config = SimpleNamespace(
        compilation_config=SimpleNamespace(encoder_cudagraph_max_frames_per_batch=frames),
        lora_config=SimpleNamespace(enable_tower_connector_lora=tower_lora),
    )
    if message is None:
        refuse_graphs(config, "cuda")
        return
    with pytest.raises(ValueError, match=message):
        refuse_graphs(config, "cuda")
