"""Script: what the model class makes of checkpoints.

``tower_outputs.py OUT.pt DTYPE FOLDER...`` saves, for each folder, the tower's output for one
image and one video, or the error that refused the checkpoint.
"""

import sys
from pathlib import Path

import torch
from media_samples import raster
from single_process import load_model, single_process

IMAGE, CLIP = (1, 140, 196), (4, 84, 56)


def rows(frames: int, height: int, width: int) -> tuple[torch.Tensor, list[list[int]]]:
    grid = [max(1, frames // 2), height // 14, width // 14]
    pixels = torch.from_numpy(raster(7, frames, height, width))
    return pixels.view(grid[0] * grid[1] * grid[2], -1), [grid]


def outcome(folder: str, dtype: str) -> list[torch.Tensor] | str:
    try:
        model = load_model(folder, dtype=dtype)
    except ValueError as error:
        return str(error)
    with torch.inference_mode():
        return [model.visual(*rows(*shape)).float() for shape in (IMAGE, CLIP)]


if __name__ == "__main__":
    out, dtype, *folders = sys.argv[1:]
    with single_process():
        torch.save({Path(folder).name: outcome(folder, dtype) for folder in folders}, out)
