"""Answers of one checkpoint: from transformers in this process, and from a server over HTTP."""

import asyncio
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
from saccade.demo.evaluation.requests import request
from saccade.demo.training.batch import patchify
from saccade.demo.training.talk_batch import TalkBatcher
from saccade.demo.world.examples import GEOMETRY, Example

MOST_TOKENS = 192
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
        self._batcher = TalkBatcher(self._tokenizer)
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
        prompt = self._batcher.tokenized(case.conversation, asked=True, by_index=frame_index_time)
        ids = prompt.ids
        shift = int(prompt.positions[0, -1]) + 1 - len(ids)

        inner = self._model.model
        embeddings = self._model.get_input_embeddings()(torch.tensor([ids]))
        for medium, first in zip(case.conversation.media, prompt.cells, strict=True):
            cells = self._tower(medium.example)
            embeddings[0, first : first + len(cells)] = cells
        places = torch.from_numpy(prompt.positions)[:, None]
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

    def _tower(self, example: Example) -> torch.Tensor:
        values = GEOMETRY.temporal_patch_size * GEOMETRY.patch_size**2  # of one channel
        mean, deviation = np.repeat(_MEAN, values), np.repeat(_DEVIATION, values)
        pixels = ((patchify(example.raster) - mean) / deviation).astype(np.float32)
        out = self._model.model.visual(
            torch.from_numpy(pixels).to(self._model.dtype),
            grid_thw=torch.tensor([example.grid]),
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
                fields = request(case.conversation, case.figure == "grammar")
                completion = await client.chat.completions.create(
                    model=model, temperature=0, max_tokens=MOST_TOKENS, **fields
                )
            progress()
            return Answer(_text(completion.choices[0].message))

        return list(await asyncio.gather(*map(ask, cases)))


def _text(message: Any) -> str:
    """The answer as the model wrote it, calls too."""
    written = [
        f'<tool_call>\n{{"name": "{call.function.name}", "arguments": {call.function.arguments}}}'
        "\n</tool_call>"
        for call in message.tool_calls or ()
    ]
    return "\n".join([*filter(None, [message.content]), *written])
