"""Script: the tower by vLLM's own manager of encoder graphs, on the CPU.

``graph_replays.py OUT.pt CHECKPOINT BATCHES`` encodes `BATCHES[...]` one after another, by replays
and without graphs, and saves both; at the end the first batch again with another weight. In place
of a CUDA graph, a replay calls the captured function again on its buffers. Memory fresh from the
allocator is NaN, and after each replay the buffers hold garbage.
"""

import sys
from typing import Any

import torch
from media_samples import raster
from single_process import load_model, single_process
from torch._subclasses.fake_tensor import FakeTensorMode
from vllm.engine.arg_utils import EngineArgs
from vllm.v1.worker.encoder_cudagraph import BudgetGraphMetadata, EncoderCudaGraphManager

Shape = tuple[int, int, int]  # frames (1: a still image), height, width

# Batches fit the budgets or not; a later one never writes all that an earlier one wrote.
BATCHES: dict[str, tuple[list[int], int, list[list[Shape]]]] = {
    "many": (
        [64, 128, 256],
        4,
        [
            [(1, 448, 448)],  # all of the largest budget: 16 x 16 units
            [(1, 28, 28)],
            [(1, 140, 140)],
            [(1, 140, 196), (1, 84, 252), (1, 28, 560), (1, 308, 196)],
            [(1, 112, 112)] * 4,
            [(1, 28, 28)] * 7,  # more than a batch may hold
            [(1, 448, 476), (1, 56, 84)],  # the first fits no budget
            [(8, 112, 224)],
            [(2, 28, 28)],
            [(4, 84, 140), (2, 140, 56), (2, 84, 84)],
            [(12, 56, 56)],  # more frames than the largest budget has
        ],
    ),
    "few": ([32], 2, [[(1, 112, 140)], [(1, 84, 84), (1, 28, 56)]]),
}


class Rerun:
    """In place of a graph."""

    def __init__(self, model: Any, buffers: dict[str, torch.Tensor], output: torch.Tensor) -> None:
        self.model, self.buffers, self.output = model, buffers, output
        self.clean = True

    def replay(self) -> None:
        out = self.model.encoder_cudagraph_forward({**self.buffers})
        self.clean &= bool(out.isfinite().all())
        self.output.copy_(out)
        for buffer in self.buffers.values():
            if buffer.dtype == torch.uint8:
                buffer.random_()
            else:
                buffer.fill_(torch.iinfo(buffer.dtype).max)


class Reruns(EncoderCudaGraphManager):
    def _capture_budget_graph(
        self, token_budget: int, path: str = "default", axis_keys: tuple[str, ...] = ()
    ) -> None:
        sizes = (token_budget, self.max_batch_size, self.max_frames_per_batch)
        values = self.model.prepare_encoder_cudagraph_capture_inputs(
            *sizes, self.device, self.dtype, path, axis_keys
        ).values
        output = torch.empty_like(self.model.encoder_cudagraph_forward({**values}))
        self._get_graph_set(path)[token_budget, axis_keys] = BudgetGraphMetadata(
            *sizes,
            graph=Rerun(self.model, values, output),
            input_buffers=values,
            output_buffer=output,
            axis_keys=axis_keys,
        )


def arguments(shapes: list[Shape]) -> dict[str, Any]:
    """The model's arguments for these media, as vLLM stacks them."""
    grids = [[-(-frames // 2), height // 14, width // 14] for frames, height, width in shapes]
    rows = [
        torch.from_numpy(raster(seed, *shape)).view(t * h * w, -1)
        for seed, (shape, (t, h, w)) in enumerate(zip(shapes, grids, strict=True))
    ]
    pixels = torch.stack(rows) if len({len(some) for some in rows}) == 1 else rows
    kind, name = ("video", "pixel_values_videos")
    if shapes[0][0] == 1:
        kind, name = ("image", "pixel_values")
    return {name: pixels, f"{kind}_grid_thw": torch.tensor(grids)}


def without_values(model: Any) -> list[int]:
    """Shape of the captured function's output, run on tensors that have no values to look at."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        values = model.prepare_encoder_cudagraph_capture_inputs(
            64, 4, 0, torch.device("cpu"), torch.float32, axis_keys=("video",)
        ).values
        assert all(value.fake_mode is mode for value in values.values())
        return list(model.encoder_cudagraph_forward({**values}).shape)


def encode(folder: str, batches: str) -> dict[str, Any]:
    budgets, items, shapes = BATCHES[batches]
    compilation = {
        "encoder_cudagraph_token_budgets": budgets,
        "encoder_cudagraph_max_vision_items_per_batch": items,
    }
    options = {"dtype": "float32", "compilation_config": compilation}
    model = load_model(folder, **options)
    config = EngineArgs(model=folder, **options).create_engine_config()
    manager = Reruns(config, torch.device("cpu"), torch.float32, model)
    manager.capture(graph_pool=object())
    found: dict[str, Any] = {"replayed": [], "eager": [], "by graph": []}
    for batch in [*shapes, shapes[0]]:
        before = manager.graph_hits
        found["replayed"].append(manager.execute(arguments(batch)))
        found["by graph"].append(manager.graph_hits - before)
        found["eager"].append(list(model.embed_multimodal(**arguments(batch))))
        if len(found["eager"]) == len(shapes):
            weight = model.visual.patch_embed.proj.weight
            model.visual.load_weights([("patch_embed.proj.weight", weight * 1.5)])
    graphs = manager.budget_graphs["default"].values()
    return found | {
        "clean": all(graph.graph.clean for graph in graphs),
        "without values": without_values(model),
        "refusal": refusal(folder),
    }


def refusal(folder: str) -> str:
    """What the model says to the option on a CPU."""
    try:
        load_model(folder, compilation_config={"cudagraph_mm_encoder": True})
    except ValueError as error:
        return str(error)
    return "none"


if __name__ == "__main__":
    out, folder, batches = sys.argv[1:]
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(8).isnan().all()
    with single_process(), torch.inference_mode():
        torch.save(encode(folder, batches), out)
