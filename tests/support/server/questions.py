"""Questions about an image and a video that the bundled model answers with certainty.

Between the best token and the next one lie at least 1.9, in the logits of transformers in float32
and in bfloat16: no rounding decides. Everything is at its final size, so that nothing is resized.
"""

from typing import Any

import numpy as np
from PIL import Image
from reference import Medium

from saccade.demo.make_media import events_clip, shapes_scene
from saccade.demo.world.scenes import draw

_BEFORE = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>"
)
_AFTER = "<|vision_end|>{}<|im_end|>\n<|im_start|>assistant\n"
TOKENS = 8  # more than any of the answers has


def image() -> Medium:
    return Medium(draw(shapes_scene())[None])


def video() -> Medium:
    clip = events_clip()
    frames = np.stack(list(clip.render(range(0, clip.frames, clip.fps // 2))))
    return Medium(frames, 1.0)  # two frames a second


def questions() -> list[tuple[Medium, str]]:
    """The medium and what is asked about it."""
    return [
        (image(), "What colour is the star?"),
        (image(), "How many objects are there?"),
        (video(), "What happens in the video?"),
        (video(), "At what second does the blue square leave?"),
    ]


def pieces(tokenizer: Any, medium: Medium, question: str) -> list[list[int] | Medium]:
    """The whole prompt, as `reference.Reference` takes it."""
    return [tokenizer.encode(_BEFORE), medium, tokenizer.encode(_AFTER.format(question))]


def as_prompt(tokenizer: Any, medium: Medium, question: str) -> dict[str, Any]:
    """The same as vLLM takes it."""
    before, _, after = pieces(tokenizer, medium, question)
    kind = "image" if medium.seconds_per_grid is None else "video"
    data: Any = Image.fromarray(medium.raster[0])
    if kind == "video":
        data = (medium.raster, {"fps": 2.0, "total_num_frames": len(medium.raster)})
    placeholder = tokenizer.convert_tokens_to_ids(f"<|{kind}_pad|>")
    return {
        "prompt_token_ids": [*before, placeholder, *after],
        "multi_modal_data": {kind: [data]},
    }
