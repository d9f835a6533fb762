"""Random weights whose model is alive: images change the answer, and the logits are far apart.

Plain small initial weights make a model that ignores its images (attention close to an average
over the prompt) and repeats its input (the tied embedding finds itself again). So attention is
made selective, and what the layers add outweighs what they were given.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from saccade.demo.checkpoints.specification import CheckpointSpec, Layout
from saccade.demo.checkpoints.tokenizer import LEARNED_TOKENS, VOCABULARY_SIZE

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# Root mean square of a linear layer's output for inputs of one. Queries and keys at 2 give
# attention scores with a standard deviation near 4: selective. The output gain makes the layers'
# sum outweigh the embedding of the last token, which the tied output matrix would repeat.
_ATTENTION_GAIN = 2.0
_OUTPUT_GAIN = 16.0
_PLAIN_GAIN = 1.0
# Added tokens get short rows in the (tied) output matrix, so that a random model seldom says them.
_ADDED_TOKEN_SCALE = 0.3


@dataclass(frozen=True)
class Weight:
    """One tensor to draw: its published name, its shape, and how it is distributed."""

    name: str
    shape: tuple[int, ...]
    gain: float = _PLAIN_GAIN

    def draw(self, seed: int) -> torch.Tensor:
        """Float32 values that depend on the seed and the published name only."""
        digest = hashlib.sha256(f"{seed}:{self.name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
        normal = torch.randn(self.shape, generator=generator)
        if len(self.shape) == 1:
            return normal * 0.1 if self.name.endswith(".bias") else 1 + normal * 0.1
        if self.name in ("model.embed_tokens.weight", "lm_head.weight"):
            normal[LEARNED_TOKENS:] *= _ADDED_TOKEN_SCALE
            return normal
        fan_in = math.prod(self.shape[1:])
        return normal * (self.gain / math.sqrt(fan_in))


def _tower(spec: CheckpointSpec) -> Iterator[Weight]:
    tower = spec.tower
    hidden, patch = tower.hidden, tower.patch_size
    yield Weight(
        "visual.patch_embed.proj.weight", (hidden, 3, tower.temporal_patch_size, patch, patch), 2.0
    )
    for index in range(tower.depth):
        block = f"visual.blocks.{index}"
        yield Weight(f"{block}.norm1.weight", (hidden,))
        yield Weight(f"{block}.norm2.weight", (hidden,))
        yield Weight(f"{block}.attn.qkv.weight", (3 * hidden, hidden), _ATTENTION_GAIN)
        yield Weight(f"{block}.attn.qkv.bias", (3 * hidden,))
        yield Weight(f"{block}.attn.proj.weight", (hidden, hidden))
        yield Weight(f"{block}.attn.proj.bias", (hidden,))
        for name in ("gate_proj", "up_proj"):
            yield Weight(f"{block}.mlp.{name}.weight", (tower.intermediate, hidden))
            yield Weight(f"{block}.mlp.{name}.bias", (tower.intermediate,))
        yield Weight(f"{block}.mlp.down_proj.weight", (hidden, tower.intermediate))
        yield Weight(f"{block}.mlp.down_proj.bias", (hidden,))
    merged = hidden * tower.merge_size**2
    yield Weight("visual.merger.ln_q.weight", (hidden,))
    yield Weight("visual.merger.mlp.0.weight", (merged, merged))
    yield Weight("visual.merger.mlp.0.bias", (merged,))
    yield Weight("visual.merger.mlp.2.weight", (spec.language.hidden, merged), 2.0)
    yield Weight("visual.merger.mlp.2.bias", (spec.language.hidden,))


def _language_model(spec: CheckpointSpec) -> Iterator[Weight]:
    language = spec.language
    hidden, head_dim = language.hidden, language.head_dim
    widths = {
        "q": language.heads * head_dim,
        "k": language.kv_heads * head_dim,
        "v": language.kv_heads * head_dim,
    }
    yield Weight("model.embed_tokens.weight", (VOCABULARY_SIZE, hidden))
    for index in range(language.layers):
        layer = f"model.layers.{index}"
        yield Weight(f"{layer}.input_layernorm.weight", (hidden,))
        yield Weight(f"{layer}.post_attention_layernorm.weight", (hidden,))
        for name, width in widths.items():
            yield Weight(f"{layer}.self_attn.{name}_proj.weight", (width, hidden), _ATTENTION_GAIN)
            yield Weight(f"{layer}.self_attn.{name}_proj.bias", (width,))
        yield Weight(f"{layer}.self_attn.o_proj.weight", (hidden, widths["q"]), _OUTPUT_GAIN)
        for name in ("gate_proj", "up_proj"):
            yield Weight(f"{layer}.mlp.{name}.weight", (language.intermediate, hidden))
        yield Weight(f"{layer}.mlp.down_proj.weight", (hidden, language.intermediate), _OUTPUT_GAIN)
    yield Weight("model.norm.weight", (hidden,))
    if not language.tie_word_embeddings:
        yield Weight("lm_head.weight", (VOCABULARY_SIZE, hidden))


def _stored_name(name: str, layout: Layout) -> str:
    if layout == "published" or name.startswith("lm_head."):
        return name
    if name.startswith("visual."):
        return f"model.{name}"
    return name.replace("model.", "model.language_model.", 1)


def random_weights(spec: CheckpointSpec) -> dict[str, torch.Tensor]:
    """All tensors of the checkpoint by the name they have in its file, in `spec.dtype`."""
    dtype = _DTYPES[spec.dtype]
    return {
        _stored_name(weight.name, spec.layout): weight.draw(spec.seed).to(dtype)
        for weight in (*_tower(spec), *_language_model(spec))
    }
