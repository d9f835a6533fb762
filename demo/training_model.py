"""Qwen2.5-VL in plain PyTorch, written for training small ones fast on a CPU.

Parameters carry the names of a published checkpoint, so that a state dict is a checkpoint. The
forward pass equals transformers' in float32. What differs is the layout of the work: the patches
of a batch are sorted by the length of their window, so that attention over all windows of one
length is one call, and questions about one picture share it (see `training_batch`).
"""

from typing import cast

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from saccade.demo.specification import CheckpointSpec, LanguageSpec, TowerSpec
from saccade.demo.tokenizer import VOCABULARY_SIZE
from saccade.demo.training_batch import Batch, Groups, TowerInputs

ROPE_THETA = 400.0
"""Base of the language model's rotary positions, which alone tell where a cell is: in a plain
picture all patches of the tower are alike. The published base, 1e6, turns the angles of a column by
less than 0.0002; in trials places took over twice as many steps to learn at angles below 0.06."""

_EPSILON = 1e-6
# Of the biases of queries and keys in the language model at first: attention then depends on
# distance from the first step on.
_POSITION_BIAS = 1.2
_TOWER_THETA = 10_000.0
# CLIP's mean and standard deviation, as in preprocessor_config.json.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


class Norm(nn.Module):
    """Root-mean-square norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, hidden: Tensor) -> Tensor:
        return functional.rms_norm(hidden, self.weight.shape, self.weight, _EPSILON)


class GatedMLP(nn.Module):
    """SwiGLU."""

    def __init__(self, hidden: int, intermediate: int, bias: bool) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden, intermediate, bias=bias)
        self.up_proj = nn.Linear(hidden, intermediate, bias=bias)
        self.down_proj = nn.Linear(intermediate, hidden, bias=bias)

    def forward(self, hidden: Tensor) -> Tensor:
        gate = functional.silu(self.gate_proj(hidden))
        return cast(Tensor, self.down_proj(gate * self.up_proj(hidden)))


def rotate(states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary embedding of ``[..., heads, head_dim]`` by angles ``[..., 1, head_dim / 2]``."""
    first, second = states.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


class TowerAttention(nn.Module):
    """Attention within groups of patches: windows, or whole frames."""

    def __init__(self, spec: TowerSpec) -> None:
        super().__init__()
        self.heads = spec.heads
        self.qkv = nn.Linear(spec.hidden, 3 * spec.hidden)
        self.proj = nn.Linear(spec.hidden, spec.hidden)

    def forward(self, hidden: Tensor, groups: Groups, cosine: Tensor, sine: Tensor) -> Tensor:
        patches, width = hidden.shape
        states = self.qkv(hidden).view(patches, 3, self.heads, -1)
        rotated = rotate(states[:, :2], cosine[:, None], sine[:, None])
        query, key, value = rotated[:, 0], rotated[:, 1], states[:, 2]
        if groups.order is not None:
            query, key, value = (part[groups.order] for part in (query, key, value))
        parts, start = [], 0
        for count, length in groups.runs:
            stop = start + count * length
            q, k, v = (
                part[start:stop].view(count, length, self.heads, -1).transpose(1, 2)
                for part in (query, key, value)
            )
            mixed = functional.scaled_dot_product_attention(q, k, v)
            parts.append(mixed.transpose(1, 2).reshape(stop - start, width))
            start = stop
        mixed = torch.cat(parts)
        if groups.inverse is not None:
            mixed = mixed[groups.inverse]
        return cast(Tensor, self.proj(mixed))


class TowerBlock(nn.Module):
    """One layer of the tower."""

    def __init__(self, spec: TowerSpec) -> None:
        super().__init__()
        self.norm1 = Norm(spec.hidden)
        self.norm2 = Norm(spec.hidden)
        self.attn = TowerAttention(spec)
        self.mlp = GatedMLP(spec.hidden, spec.intermediate, bias=True)

    def forward(self, hidden: Tensor, groups: Groups, cosine: Tensor, sine: Tensor) -> Tensor:
        hidden = hidden + self.attn(self.norm1(hidden), groups, cosine, sine)
        return cast(Tensor, hidden + self.mlp(self.norm2(hidden)))


class PatchEmbed(nn.Module):
    """Pixels to patches; the weight has the shape of the published 3D convolution."""

    def __init__(self, spec: TowerSpec) -> None:
        super().__init__()
        self.proj = nn.Module()
        shape = (spec.hidden, 3, spec.temporal_patch_size, spec.patch_size, spec.patch_size)
        self.proj.weight = nn.Parameter(torch.empty(shape))
        values = spec.temporal_patch_size * spec.patch_size**2  # of one channel
        for name, per_channel in (("mean", _MEAN), ("deviation", _DEVIATION)):
            table = (torch.tensor(per_channel) * 255).repeat_interleave(values)
            self.register_buffer(name, table, persistent=False)

    def forward(self, patches: Tensor) -> Tensor:
        """uint8 ``[patches, 3 * temporal * patch * patch]`` -> ``[patches, hidden]``."""
        pixels = (patches - cast(Tensor, self.mean)) / cast(Tensor, self.deviation)
        return functional.linear(pixels, cast(Tensor, self.proj.weight).flatten(1))


class Merger(nn.Module):
    """Four patches to one token of the language model."""

    def __init__(self, spec: TowerSpec, out: int) -> None:
        super().__init__()
        width = spec.hidden * spec.merge_size**2
        self.ln_q = Norm(spec.hidden)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, out))
        self.width = width

    def forward(self, hidden: Tensor) -> Tensor:
        return cast(Tensor, self.mlp(self.ln_q(hidden).view(-1, self.width)))


class Tower(nn.Module):
    """The vision tower."""

    def __init__(self, spec: CheckpointSpec) -> None:
        super().__init__()
        tower = spec.tower
        self.patch_embed = PatchEmbed(tower)
        self.blocks = nn.ModuleList(TowerBlock(tower) for _ in range(tower.depth))
        self.merger = Merger(tower, spec.language.hidden)
        self.full = tower.fullatt_block_indexes
        # Half of a head's pairs turn with the row, half with the column.
        quarter = tower.hidden // tower.heads // 4
        frequencies = _TOWER_THETA ** (-torch.arange(quarter) / quarter)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, batch: TowerInputs) -> Tensor:
        """``[cells, language hidden]``, in raster order, medium by medium."""
        angles = (batch.patch_positions[..., None] * cast(Tensor, self.frequencies)).flatten(1)
        cosine, sine = angles.cos()[:, None], angles.sin()[:, None]
        hidden = self.patch_embed(batch.patches)
        for index, block in enumerate(self.blocks):
            groups = batch.frame_groups if index in self.full else batch.window_groups
            hidden = block(hidden, groups, cosine, sine)
        return cast(Tensor, self.merger(hidden)[batch.raster_order])


class LanguageAttention(nn.Module):
    """Grouped-query attention of the language model."""

    def __init__(self, spec: LanguageSpec) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = spec.heads, spec.kv_heads, spec.head_dim
        self.q_proj = nn.Linear(spec.hidden, spec.heads * spec.head_dim)
        self.k_proj = nn.Linear(spec.hidden, spec.kv_heads * spec.head_dim)
        self.v_proj = nn.Linear(spec.hidden, spec.kv_heads * spec.head_dim)
        self.o_proj = nn.Linear(spec.heads * spec.head_dim, spec.hidden, bias=False)

    def forward(self, hidden: Tensor, mask: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        samples, length, _ = hidden.shape
        query = self.q_proj(hidden).view(samples, length, self.heads, self.head_dim)
        key = self.k_proj(hidden).view(samples, length, self.kv_heads, self.head_dim)
        value = self.v_proj(hidden).view(samples, length, self.kv_heads, self.head_dim)
        mixed = functional.scaled_dot_product_attention(
            rotate(query, cosine, sine).transpose(1, 2),
            rotate(key, cosine, sine).transpose(1, 2),
            value.transpose(1, 2),
            attn_mask=mask,
            enable_gqa=True,
        )
        return cast(Tensor, self.o_proj(mixed.transpose(1, 2).flatten(2)))


class LanguageLayer(nn.Module):
    """One layer of the language model."""

    def __init__(self, spec: LanguageSpec) -> None:
        super().__init__()
        self.input_layernorm = Norm(spec.hidden)
        self.post_attention_layernorm = Norm(spec.hidden)
        self.self_attn = LanguageAttention(spec)
        self.mlp = GatedMLP(spec.hidden, spec.intermediate, bias=False)

    def forward(self, hidden: Tensor, mask: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), mask, cosine, sine)
        return cast(Tensor, hidden + self.mlp(self.post_attention_layernorm(hidden)))


class LanguageModel(nn.Module):
    """Qwen2's decoder with three-axis rotary positions."""

    def __init__(self, spec: LanguageSpec) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCABULARY_SIZE, spec.hidden)
        self.layers = nn.ModuleList(LanguageLayer(spec) for _ in range(spec.layers))
        self.norm = Norm(spec.hidden)
        half = spec.head_dim // 2
        frequencies = ROPE_THETA ** (-torch.arange(half) / half)
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
    """The tower and the language model, named as in a published checkpoint."""

    def __init__(self, spec: CheckpointSpec) -> None:
        super().__init__()
        self.visual = Tower(spec)
        self.model = LanguageModel(spec.language)
        depths = {"visual": spec.tower.depth, "model": spec.language.layers}
        generator = torch.Generator().manual_seed(spec.seed)
        for name, weight in self.named_parameters():
            _initialise(name, weight.data, depths[name.split(".")[0]], generator)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Logits ``[answer tokens, vocabulary]``, cells ``[cells, hidden]``, hidden states."""
        cells = self.visual(batch.tower)
        embeddings = self.model.embed_tokens(batch.token_ids)
        flat = embeddings.view(-1, embeddings.shape[-1]).index_copy(0, batch.cell_places, cells)
        states = self.model(flat.view_as(embeddings), batch)
        chosen = states[-1].flatten(0, 1)[batch.answer_places]
        return functional.linear(chosen, self.model.embed_tokens.weight), cells, states


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
