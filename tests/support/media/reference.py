"""What the model's output should be: Hugging Face's model in float32, fed without its processor.

Pixels are normalised and cut into patches here, and positions written out from the formula, so
that nothing of Saccade's own stands on both sides of a comparison.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import Qwen2_5_VLForConditionalGeneration

MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
STD = np.array([0.26862954, 0.26130258, 0.27577711])
PATCH, MERGE, TEMPORAL = 14, 2, 2


@dataclass(frozen=True)
class Medium:
    """A raster at its final size: uint8 ``[frames, height, width, 3]``."""

    raster: npt.NDArray[np.uint8]
    seconds_per_grid: float | None = None  # None: a still image

    @property
    def grid(self) -> tuple[int, int, int]:
        frames, height, width, _ = self.raster.shape
        return max(1, frames // TEMPORAL), height // PATCH, width // PATCH

    @property
    def tokens(self) -> int:
        return math.prod(self.grid) // MERGE**2

    def patches(self) -> torch.Tensor:
        """float32 ``[patches, 3 * 2 * 14 * 14]`` in the order of Hugging Face's processor."""
        frames = self.raster if len(self.raster) > 1 else self.raster.repeat(TEMPORAL, axis=0)
        pixels = ((frames / 255 - MEAN) / STD).astype(np.float32)
        t, h, w = self.grid
        tiles = pixels.reshape(
            t, TEMPORAL, h // MERGE, MERGE, PATCH, w // MERGE, MERGE, PATCH, 3
        ).transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)
        return torch.from_numpy(np.ascontiguousarray(tiles).reshape(t * h * w, -1))


class Reference:
    """Hugging Face's Qwen2.5-VL on the CPU in float32."""

    def __init__(self, checkpoint: Path) -> None:
        self.model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            checkpoint, dtype=torch.float32
        ).eval()
        self.config = self.model.config

    def prompt(self, pieces: list[list[int] | Medium]) -> list[int]:
        """Token ids of text and media, with every medium's placeholders in full."""
        ids: list[int] = []
        for piece in pieces:
            ids += [self.placeholder(piece)] * piece.tokens if isinstance(piece, Medium) else piece
        return ids

    def placeholder(self, medium: Medium) -> int:
        still = medium.seconds_per_grid is None
        return self.config.image_token_id if still else self.config.video_token_id

    def positions(self, pieces: list[list[int] | Medium], generated: int = 0) -> torch.Tensor:
        """``[3, 1, tokens]``, token by token from the formula."""
        columns: list[tuple[int, int, int]] = []
        start = 0
        for piece in [*pieces, [0] * generated]:
            if isinstance(piece, Medium):
                t, h, w = piece.grid
                rate = self.config.vision_config.tokens_per_second
                seconds = piece.seconds_per_grid or 0.0
                columns += [
                    (start + math.floor(i * seconds * rate + 1e-9), start + j, start + k)
                    for i in range(t)
                    for j in range(h // MERGE)
                    for k in range(w // MERGE)
                ]
            else:
                columns += [(start + i,) * 3 for i in range(len(piece))]
            start = max(map(max, columns), default=-1) + 1
        return torch.tensor(columns).T[:, None, :]

    @torch.inference_mode()
    def tower(self, media: list[Medium]) -> torch.Tensor:
        """``[merged tokens, hidden]`` of the media, one after another."""
        grids = torch.tensor([medium.grid for medium in media])
        out = self.model.model.visual(
            torch.cat([medium.patches() for medium in media]).to(self.model.dtype), grid_thw=grids
        )
        return out.pooler_output if hasattr(out, "pooler_output") else out

    @torch.inference_mode()
    def logits(self, pieces: list[list[int] | Medium], generated: list[int]) -> torch.Tensor:
        """``[1 + generated, vocabulary]``, after the prompt and after each generated token."""
        ids = torch.tensor([self.prompt(pieces) + generated])
        embeddings = self.model.get_input_embeddings()(ids)
        for medium in (piece for piece in pieces if isinstance(piece, Medium)):
            first = int((ids[0] == self.placeholder(medium)).int().argmax())
            embeddings[0, first : first + medium.tokens] = self.tower([medium])
            ids[0, first : first + medium.tokens] = -1
        hidden = self.model.model.language_model(
            inputs_embeds=embeddings, position_ids=self.positions(pieces, len(generated))
        ).last_hidden_state
        return self.model.lm_head(hidden[0, -1 - len(generated) :])
