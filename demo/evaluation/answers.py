"""Answers of one checkpoint: from transformers in this process, and from a server over HTTP."""

import asyncio
import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openai
import torch
from tokenizers import Tokenizer

from saccade.demo.evaluation.cases import Case
from saccade.demo.training.batch import BEFORE_MEDIUM, TOKENS_PER_SECOND, patchify
from saccade.demo.world.examples import GEOMETRY
from saccade.model.positions import MediumPosition, mrope_positions

MOST_TOKENS = 128
_REQUESTS_AT_ONCE = 16
_MEAN = np.array([0.48145466, 0.4578275, 0.40821073]) * 255
_DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711]) * 255


@dataclass(frozen=True)
class Answer:
    """What was said, and the least distance between the two best logits on the way."""

    text: str
    margin: float = math.inf


class TransformersModel:
    """Hugging Face's Qwen2.5-VL, fed as the server feeds the model."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        from transformers import Qwen2_5_VLForConditionalGeneration

        self._model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._stops = {self._id("<|im_end|>"), self._id("<|endoftext|>")}

    def _id(self, token: str) -> int:
        number: int | None = self._tokenizer.token_to_id(token)
        assert number is not None, f"the checkpoint's tokenizer lacks {token}"
        return number

    @torch.inference_mode()
    def answer(self, case: Case, frame_index_time: bool = False) -> Answer:
        """The greedy answer.

        Args:
            frame_index_time: number the steps of a video 0, 1, 2 ... whatever their distance in
                time. A control: it shows what absolute time is worth.
        """
        t, h, w = case.example.grid
        grid = (t, h // GEOMETRY.merge_size, w // GEOMETRY.merge_size)
        pad = self._id("<|video_pad|>" if case.is_clip else "<|image_pad|>")
        before = self._tokenizer.encode(BEFORE_MEDIUM).ids
        asked = f"<|vision_end|>{case.turn.question}<|im_end|>\n<|im_start|>assistant\n"
        ids = [*before, *[pad] * math.prod(grid), *self._tokenizer.encode(asked).ids]
        spacing = 1 / TOKENS_PER_SECOND if frame_index_time else case.example.seconds_per_grid
        medium = MediumPosition(len(before), grid, spacing if case.is_clip else None)
        positions, shift = mrope_positions(len(ids), [medium], TOKENS_PER_SECOND)

        inner = self._model.model
        embeddings = self._model.get_input_embeddings()(torch.tensor([ids]))
        cells = slice(len(before), len(before) + math.prod(grid))
        embeddings[0, cells] = self._tower(case)
        places = torch.from_numpy(positions)[:, None]
        cache, margin = None, math.inf
        said: list[int] = []
        for _ in range(MOST_TOKENS):
            out = inner.language_model(
                inputs_embeds=embeddings, position_ids=places, past_key_values=cache, use_cache=True
            )
            cache = out.past_key_values
            best = self._model.lm_head(out.last_hidden_state[0, -1]).float().topk(2)
            margin = min(margin, float(best.values[0] - best.values[1]))
            token = int(best.indices[0])
            if token in self._stops:
                break
            places = torch.full((3, 1, 1), len(ids) + len(said) + shift)
            said.append(token)
            embeddings = self._model.get_input_embeddings()(torch.tensor([[token]]))
        return Answer(self._tokenizer.decode(said), margin)

    def _tower(self, case: Case) -> torch.Tensor:
        values = GEOMETRY.temporal_patch_size * GEOMETRY.patch_size**2  # of one channel
        mean, deviation = np.repeat(_MEAN, values), np.repeat(_DEVIATION, values)
        pixels = ((patchify(case.example.raster) - mean) / deviation).astype(np.float32)
        out = self._model.model.visual(
            torch.from_numpy(pixels).to(self._model.dtype),
            grid_thw=torch.tensor([case.example.grid]),
        )
        pooled: torch.Tensor = out.pooler_output
        return pooled


def server_answers(url: str, cases: Sequence[Case], progress: Callable[[], object]) -> list[Answer]:
    """The answers of the OpenAI-compatible server at ``url``, in the order of the cases.

    Raises:
        openai.APIError: a request failed.
    """
    return asyncio.run(_ask_all(url, cases, progress))


async def _ask_all(url: str, cases: Sequence[Case], progress: Callable[[], object]) -> list[Answer]:
    slots = asyncio.Semaphore(_REQUESTS_AT_ONCE)
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", timeout=600) as client:
        model = (await client.models.list()).data[0].id

        async def ask(case: Case) -> Answer:
            async with slots:
                messages: Any = [message(case)]
                completion = await client.chat.completions.create(
                    model=model,
                    messages=messages,
                    temperature=0,
                    max_tokens=MOST_TOKENS,
                )
            progress()
            return Answer(completion.choices[0].message.content or "")

        return list(await asyncio.gather(*map(ask, cases)))


def message(case: Case) -> dict[str, object]:
    """The user message of a case, its medium as a data: URL."""
    part, media_type = (
        ("video_url", "video/quicktime") if case.is_clip else ("image_url", "image/png")
    )
    encoded = base64.b64encode(case.medium).decode("ascii")
    medium = {"type": part, part: {"url": f"data:{media_type};base64,{encoded}"}, **case.controls}
    return {"role": "user", "content": [medium, {"type": "text", "text": case.turn.question}]}
