"""Loads checkpoints into the model class without an engine and writes down what happens.

Run as a script, because vLLM's distributed state belongs to the process:
``tower_outputs.py OUT.pt DTYPE FOLDER...`` saves, for each folder, the tower's output for one
image and one clip, or the error that refused the checkpoint.
"""

import sys
import tempfile
from pathlib import Path

import torch
from media_samples import raster

IMAGE, CLIP = (1, 140, 196), (4, 84, 56)


def rows(frames: int, height: int, width: int) -> tuple[torch.Tensor, list[list[int]]]:
    grid = [max(1, frames // 2), height // 14, width // 14]
    pixels = torch.from_numpy(raster(7, frames, height, width))
    return pixels.view(grid[0] * grid[1] * grid[2], -1), [grid]


def load(folder: str, dtype: str) -> list[torch.Tensor] | str:
    from vllm.config import set_current_vllm_config
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader import get_model

    config = EngineArgs(model=folder, dtype=dtype, enforce_eager=True).create_engine_config()
    try:
        with set_current_vllm_config(config):
            model = get_model(vllm_config=config)
    except ValueError as error:
        return str(error)
    with torch.inference_mode():
        return [model.visual(*rows(*shape)).float() for shape in (IMAGE, CLIP)]


def main() -> None:
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.distributed import init_distributed_environment, initialize_model_parallel

    out, dtype, *folders = sys.argv[1:]
    torch.accelerator.empty_cache = lambda: None  # there is none; vLLM's CPU worker does the same
    with tempfile.TemporaryDirectory() as rendezvous:
        with set_current_vllm_config(VllmConfig()):
            init_distributed_environment(1, 0, f"file://{rendezvous}/store", 0, "gloo")
            initialize_model_parallel()
        torch.save({Path(folder).name: load(folder, dtype) for folder in folders}, out)


if __name__ == "__main__":
    main()
