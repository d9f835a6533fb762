"""Qwen2.5-VL in plain PyTorch, written for training small ones fast on a CPU.

Parameters carry the names of a published checkpoint, so that a state dict is a checkpoint. The
forward pass equals transformers' in float32. What differs is the layout of the work: the patches
of a batch are sorted by the length of their window, so that attention over all windows of one
length is one call, and questions about one image share it (see `training.batch`). In `fast` mode
matrices are multiplied in bfloat16, where the processor can, and what lies between one attention
and the next is compiled.
"""

from typing import cast

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from saccade.demo.checkpoints.specification import CheckpointSpec, LanguageSpec
from saccade.demo.checkpoints.tokenizer import VOCABULARY_SIZE
from saccade.demo.training.batch import Batch, TowerInputs
from saccade.demo.training.model.layers import GatedMLP, Layer, Norm, rotate
from saccade.demo.training.model.tower import Tower

HAS_BFLOAT16 = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
"""Whether the processor multiplies bfloat16 itself, about twice as fast as float32."""
# Of the biases of queries and keys in the language model at first: attention then depends on
# distance from the first step on.
_POSITION_BIAS = 1.2


class LanguageAttention(nn.Module):
    """The weights of the language model's grouped-query attention."""

    def __init__(self, spec: LanguageSpec) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = spec.heads, spec.kv_heads, spec.head_dim
        self.q_proj = nn.Linear(spec.hidden, spec.heads * spec.head_dim)
        self.k_proj = nn.Linear(spec.hidden, spec.kv_heads * spec.head_dim)
        self.v_proj = nn.Linear(spec.hidden, spec.kv_heads * spec.head_dim)
        self.o_proj = nn.Linear(spec.heads * spec.head_dim, spec.hidden, bias=False)


class LanguageLayer(Layer):
    """One layer of the language model."""

    def __init__(self, spec: LanguageSpec) -> None:
        super().__init__()
        self.input_layernorm = Norm(spec.hidden)
        self.post_attention_layernorm = Norm(spec.hidden)
        self.self_attn = LanguageAttention(spec)
        self.mlp = GatedMLP(spec.hidden, spec.intermediate, bias=False)

    def forward(self, hidden: Tensor, mask: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        query, key, value = self.fused(_language_queries)(self, hidden, cosine, sine)
        mixed = self.fused(_attend)(query, key, value, mask)
        return cast(Tensor, self.fused(_language_rest)(self, hidden, mixed))


def _language_queries(
    layer: LanguageLayer, hidden: Tensor, cosine: Tensor, sine: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    weights, normed = layer.self_attn, layer.input_layernorm(hidden)
    samples, length, _ = hidden.shape
    query = weights.q_proj(normed).view(samples, length, weights.heads, weights.head_dim)
    key = weights.k_proj(normed).view(samples, length, weights.kv_heads, weights.head_dim)
    value = weights.v_proj(normed).view(samples, length, weights.kv_heads, weights.head_dim)
    return (
        rotate(query, cosine, sine).transpose(1, 2),
        rotate(key, cosine, sine).transpose(1, 2),
        value.transpose(1, 2),
    )


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Written out: with a mask, PyTorch's own backward pass on a CPU is several times slower.

    Queries ``[samples, heads, length, head_dim]``, mask ``[samples, 1, length, length]``.
    """
    samples, heads, length, head_dim = query.shape
    kv_heads = key.shape[1]
    share = heads // kv_heads  # query heads that read one key head
    grouped = query.reshape(samples, kv_heads, share * length, head_dim).to(value.dtype)
    scores = grouped @ key.transpose(-1, -2).to(value.dtype)
    scores = scores.view(samples, kv_heads, share, length, length).float() * head_dim**-0.5
    weights = scores.masked_fill(~mask[:, :, None], -30_000.0).softmax(-1)
    weights = weights.view(samples, kv_heads, share * length, length).to(value.dtype)
    return (weights @ value).view(samples, heads, length, head_dim)


def _language_rest(layer: LanguageLayer, hidden: Tensor, mixed: Tensor) -> Tensor:
    hidden = hidden + layer.self_attn.o_proj(mixed.transpose(1, 2).flatten(2))
    return cast(Tensor, hidden + layer.mlp(layer.post_attention_layernorm(hidden)))


class LanguageModel(nn.Module):
    """Qwen2's decoder with three-axis rotary positions."""

    def __init__(self, spec: LanguageSpec) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCABULARY_SIZE, spec.hidden)
        self.layers = nn.ModuleList(LanguageLayer(spec) for _ in range(spec.layers))
        self.norm = Norm(spec.hidden)
        half = spec.head_dim // 2
        frequencies = spec.rope_theta ** (-torch.arange(half) / half)
        axes = torch.arange(3).repeat_interleave(torch.tensor(spec.mrope_section))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.register_buffer("axes", axes, persistent=False)

    def forward(self, embeddings: Tensor, batch: Batch) -> list[Tensor]:
        """The hidden states ``[samples, length, hidden]`` after each layer, the last one normed."""
        positions = batch.positions[cast(Tensor, self.axes)].permute(1, 2, 0)  # [..., head_dim / 2]
        angles = positions * cast(Tensor, self.frequencies)
        cosine, sine = angles.cos()[:, :, None], angles.sin()[:, :, None]
        branch = batch.branches
        earlier = torch.ones(branch.shape[1], branch.shape[1], dtype=torch.bool).tril()
        shared = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])
        mask = (shared & earlier)[:, None]
        states = [embeddings]
        for layer in self.layers:
            states.append(layer(states[-1], mask, cosine, sine))
        states[-1] = self.norm(states[-1])
        return states


class TrainingModel(nn.Module):
    """The tower and the language model, named as in a published checkpoint.

    Args:
        fast: multiply in bfloat16 (`HAS_BFLOAT16`) and compile; else everything is plain float32.
    """

    def __init__(self, spec: CheckpointSpec, fast: bool = False) -> None:
        super().__init__()
        self.fast = fast
        self.visual = Tower(spec)
        self.model = LanguageModel(spec.language)
        depths = {"visual": spec.tower.depth, "model": spec.language.layers}
        generator = torch.Generator().manual_seed(spec.seed)
        for name, weight in self.named_parameters():
            _initialise(name, weight.data, depths[name.split(".")[0]], generator)
        self.visual.start_with_neighbours()
        for module in self.modules():
            if isinstance(module, Layer):
                module.fast = fast

    def see(self, inputs: TowerInputs) -> Tensor:
        """The tower's cells, float32 ``[cells, hidden]``."""
        with self._precision():
            return cast(Tensor, self.visual(inputs)).float()

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Logits ``[answer tokens, vocabulary]``, cells ``[cells, hidden]``, hidden states."""
        cells = self.see(batch.tower)
        with self._precision():
            embeddings = self.model.embed_tokens(batch.token_ids)
            shown = cells if batch.cell_rows is None else cells[batch.cell_rows]
            flat = embeddings.view(-1, embeddings.shape[-1]).index_copy(0, batch.cell_places, shown)
            states = self.model(flat.view_as(embeddings), batch)
            chosen = states[-1].flatten(0, 1)[batch.answer_places]
            logits = functional.linear(chosen, self.model.embed_tokens.weight)
        return logits.float(), cells, states

    def _precision(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.fast and HAS_BFLOAT16)


def _initialise(name: str, weight: Tensor, depth: int, generator: torch.Generator) -> None:
    if name.endswith(("q_proj.bias", "k_proj.bias")):
        weight.normal_(0.0, _POSITION_BIAS, generator=generator)
        return
    if weight.dim() == 1:
        weight.fill_(0.0 if name.endswith("bias") else 1.0)
        return
    deviation = 0.05 if "embed_tokens" in name else weight[0].numel() ** -0.5
    if any(part in name for part in ("attn.proj", "o_proj", "down_proj")):
        deviation /= (2 * depth) ** 0.5  # what a layer adds, so that depth does not swell the sum
    weight.normal_(0.0, deviation, generator=generator)
