"""Script: what the bundled model says, and which backends of the kernels said it.

``answers_by_backend.py CHECKPOINT`` prints JSON: the greedy tokens for an image and for a video,
and how often each backend of each operation ran in the engine's worker.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from engine import engine, greedy
from media_samples import raster
from PIL import Image

TOKENS = 6


def count_backends(_: Any) -> None:
    """Runs in the worker: from now on every call of an operation is counted."""
    from saccade.kernels import dispatch

    chosen = dispatch.implementation
    dispatch.ran = Counter()

    def counting(operation: str, device_type: str) -> Any:
        dispatch.ran[f"{operation}: {dispatch.select_backend(operation, device_type).backend}"] += 1
        return chosen(operation, device_type)

    dispatch.implementation = counting


def counted(_: Any) -> dict[str, int]:
    """Runs in the worker."""
    from saccade.kernels import dispatch

    return dict(dispatch.ran)


def main(checkpoint: str) -> None:
    image = Image.fromarray(raster(3, 1, 84, 140)[0])
    video = (raster(4, 4, 84, 56), {"fps": 2.0, "total_num_frames": 4})
    prompts = [
        {
            "prompt": f"<|vision_start|><|{kind}_pad|><|vision_end|>What do you see?",
            "multi_modal_data": {kind: [medium]},
        }
        for kind, medium in (("image", image), ("video", video))
    ]
    with engine(Path(checkpoint), max_model_len=512, mm_processor_kwargs={}) as llm:
        llm.apply_model(count_backends)
        tokens = greedy(llm, prompts, TOKENS)
        print(json.dumps({"tokens": tokens, "ran": llm.apply_model(counted)[0]}))


if __name__ == "__main__":
    # Functions travel to the worker by their module's name, and it has another main module.
    import answers_by_backend

    answers_by_backend.main(sys.argv[1])
