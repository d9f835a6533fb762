"""Requests that meet what differs between vLLM's model runners V1 and V2, with made-up media."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from media_samples import raster

from saccade.server.checkpoint.bundled import bundled_checkpoint

BLOCK, STEP, TOKENS = 32, 96, 8  # of the KV cache; of a step; of an answer
BLOCKS = 20  # 608 tokens and the block that vLLM keeps
CELL = 28  # pixels a side of what becomes one token


@dataclass(frozen=True)
class Image:
    """A still image of ``rows x columns`` tokens."""

    rows: int
    columns: int
    seed: int

    modality = "image"

    @property
    def grid(self) -> tuple[int, int, int]:
        return 1, self.rows, self.columns

    seconds_per_grid = None

    def data(self) -> Any:
        from PIL import Image as Pillow

        return Pillow.fromarray(raster(self.seed, 1, CELL * self.rows, CELL * self.columns)[0])


@dataclass(frozen=True)
class Video:
    """A video of ``grids x rows x columns`` tokens, two frames a grid."""

    grids: int
    rows: int
    columns: int
    fps: float
    seed: int

    modality = "video"

    @property
    def grid(self) -> tuple[int, int, int]:
        return self.grids, self.rows, self.columns

    @property
    def seconds_per_grid(self) -> float:
        return 2 / self.fps

    def data(self) -> Any:
        frames = raster(self.seed, 2 * self.grids, CELL * self.rows, CELL * self.columns)
        return frames, {"fps": self.fps, "total_num_frames": len(frames)}


@dataclass(frozen=True)
class Request:
    """A request: text and media in the order of the prompt, and vLLM's sampling parameters."""

    parts: Sequence[str | Image | Video]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def media(self) -> list[Image | Video]:
        return [part for part in self.parts if not isinstance(part, str)]

    def prompt(self) -> dict[str, Any]:
        text = "".join(
            part
            if isinstance(part, str)
            else f"<|vision_start|><|{part.modality}_pad|><|vision_end|>"
            for part in self.parts
        )
        data: dict[str, list[Any]] = {}
        for medium in self.media:
            data.setdefault(medium.modality, []).append(medium.data())
        return {"prompt": text, "multi_modal_data": data} if data else {"prompt": text}

    def sampling(self) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        options = {"temperature": 0, "max_tokens": TOKENS, "ignore_eos": True, "logprobs": 5}
        options |= self.options
        if schema := options.pop("schema", None):
            options["structured_outputs"] = StructuredOutputsParams(json=schema)
        return SamplingParams(**options)


# Frame rates at which seconds per grid, rounded to float32 or bfloat16, name other positions.
LONG = Video(14, 3, 4, 2.4, 1)  # 168 tokens: more than a step, and than a block of the KV cache
SLOW = Video(6, 2, 3, 0.6, 2)
FAST = Video(7, 2, 2, 4.8, 3)
SCHEMA = {"enum": ["a red square", "a green circle"]}  # nothing that ends with white space
PENALTIES = {"presence_penalty": 0.5, "frequency_penalty": 0.4, "repetition_penalty": 1.2}
# All of these are taken in by one step: their media are encoded in one call, by modality.
SMALL = [
    Request(
        [Image(2, 2, 10), " one ", Video(2, 2, 2, 0.6, 11), " two ", Image(2, 3, 12), " three"]
    ),
    Request(
        [Video(3, 2, 2, 2.4, 13), " and ", Image(3, 2, 14), " or ", Video(2, 2, 2, 7, 15), "?"]
    ),
    Request(["See ", Image(2, 2, 16), "."]),
]
GROUPS: dict[str, list[Request]] = {
    "small": SMALL,
    "mixed": [
        Request(["The quick brown fox"]),
        Request([Image(5, 7, 20), "What is this?"]),
        Request(["First: ", LONG, " What happens?"]),
        Request([Image(3, 4, 21), " then ", SLOW, " then ", Image(2, 6, 22), " and?"]),
        Request([FAST, Image(6, 2, 23), SLOW, " Compare."]),
    ],
    "first": [Request(["Now ", Video(12, 3, 4, 2.4, 30), " Where is it?"])],
    "again": [Request(["Now ", Video(12, 3, 4, 2.4, 30), " Which colour has it?"])],
    # Once more, its embeddings forgotten.
    "cold": [Request(["Now ", Video(12, 3, 4, 2.4, 30), " Who?"])],
    # Three prompts of six blocks each fit; with their answers they do not.
    "crowded": [
        Request(
            [
                Video(12, 3, 4, fps, 40 + number),
                f" Number {number}, then: ",
                Image(3, 3, 50 + number),
                "?",
            ],
            {"max_tokens": 40},
        )
        for number, fps in enumerate((0.6, 2.4, 4.8))
    ],
    "sampled": [
        Request([Image(3, 3, 60), "Again?"], PENALTIES | {"max_tokens": 40}),
        Request(
            [Video(4, 2, 3, 2.4, 61), "As JSON:"],
            {"schema": SCHEMA, "ignore_eos": False, "max_tokens": 40},
        ),
        Request([Image(3, 3, 60), "Again?"], {"temperature": 0.8, "top_k": 1}),
        Request([Image(4, 3, 62), "What is said?"], {"prompt_logprobs": 2}),
    ],
}
# Not on V1, whose generators on a CPU cannot take back a number: a request with a seed may end it.
SEEDED = {"temperature": 0.9, "seed": 11, "n": 2}
ON_V2 = GROUPS | {
    "seeded": [
        Request([SLOW, "Dice:"], SEEDED),
        Request([Image(3, 3, 60), "Again?"], {"temperature": 1.5}),
        Request([SLOW, "Dice:"], SEEDED | {"seed": 40, "n": 1}),
    ],
    "seeded alone": [Request([SLOW, "Dice:"], SEEDED)],
}
BY_GRAPH = ("small", "mixed")


def vision_start() -> int:
    """The token before each medium."""
    return int(
        json.loads((bundled_checkpoint() / "config.json").read_text())["vision_start_token_id"]
    )
