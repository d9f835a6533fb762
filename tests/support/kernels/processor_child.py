"""Script: operations and tower on the processor that the environment imitates.

``processor_child.py LIBRARY CHECKPOINT`` loads these compiled backends, holds every operation
against its reference in every number format, encodes an image and a video in each, and prints JSON.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from media_samples import raster
from single_process import load_model, single_process

from saccade.kernels import dispatch
from saccade.kernels.cpu import compiled, extension
from saccade.kernels.cpu.processor import processor
from saccade.kernels.operations import (
    full_attention,
    merge_input,
    mrope,
    patch_input,
    window_attention,
)
from saccade.kernels.self_test import cases, proof

REGISTERED = (window_attention, full_attention, mrope, patch_input, merge_input)
IMAGE, CLIP = (1, 140, 196), (4, 84, 56)


def kernels() -> dict[str, str]:
    """Each registered operation in each format: ``right``, or what is wrong with it."""
    found = {}
    for name, run in zip(dispatch.OPERATIONS, REGISTERED, strict=True):
        for dtype in cases.FLOATS:
            try:
                cases.check(name, run, dtype)
                said = "right"
            except Exception as error:
                said = repr(error)
            found[f"{name} {dtype}"] = said
    return found


def native_bfloat16() -> str:
    """What oneDNN itself does about products of bfloat16: ``runs``, or what it throws."""
    operations = extension.load().operations
    qkv, angles = torch.ones(4, 3, 1, 16, dtype=torch.bfloat16), torch.ones(4, 8)
    try:
        operations.attention_bfloat16(qkv, angles, angles, torch.tensor([0, 4], dtype=torch.int32))
    except Exception as error:
        return repr(error)
    return "runs"


def tower(checkpoint: str, backend: str, dtype: str) -> list[torch.Tensor]:
    """What it makes of an image and of a video, by these backends of the kernels."""
    os.environ[dispatch.KERNELS_ENV] = backend
    proof.forget_selected()
    model = load_model(checkpoint, dtype=dtype)
    outputs = []
    for frames, height, width in (IMAGE, CLIP):
        grid = [max(1, frames // 2), height // 14, width // 14]
        pixels = torch.from_numpy(raster(7, frames, height, width)).view(
            grid[0] * grid[1] * grid[2], -1
        )
        outputs.append(model.visual(pixels, [grid]).double())
    return outputs


def errors(checkpoint: str) -> dict[str, float]:
    """Of the tower in each format, by the fastest backends and by plain PyTorch's: root mean
    square,
    as a share of that of the values in float32."""
    found = {}
    truth = tower(checkpoint, "reference", "float32")
    for dtype in ("float32", "bfloat16", "float16"):
        for backend in ("auto", "reference"):
            off = [
                ((ours - exact).square().mean() / exact.square().mean()).sqrt().item()
                for ours, exact in zip(tower(checkpoint, backend, dtype), truth, strict=True)
            ]
            found[f"{backend} {dtype}"] = max(off)
    return found


def main(library: str, checkpoint: str) -> dict[str, Any]:
    extension.library = lambda: Path(library)
    with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
        torch.ones(8, 8).to_mkldnn()  # oneDNN says which instructions it uses
    found = {
        "processor": {
            name: list(value) if isinstance(value, frozenset) else value
            for name, value in asdict(processor()).items()
        },
        "bfloat16": processor().bfloat16_matmul,
        "float16": processor().float16_matmul,
        "described": processor().describe(),
        "native bfloat16": native_bfloat16(),
        "extension": extension.load().reason,
        "compiled": list(compiled.prove()),
        "kernels": kernels(),
    }
    with single_process(), torch.inference_mode():
        found["tower"] = errors(checkpoint)
    used = [key for key, reason in proof._REASONS.items() if reason is None]
    return found | {
        "used": sorted(f"{operation} {dtype}" for operation, _, dtype in used),
        "failures": [str(failure) for failure in proof.failures()],
    }


if __name__ == "__main__":
    print("\nFOUND " + json.dumps(main(*sys.argv[1:])))
