"""Qwen2.5-VL in plain PyTorch, written for training small ones fast on a CPU.

Parameters carry the names of a published checkpoint, so that a state dict is a checkpoint. The
forward pass equals transformers' in float32. What differs is the layout of the work: the patches
of a batch are sorted by the length of their window, so that attention over all windows of one
length is one call, and questions about one picture share it (see `training_batch`). In `fast` mode
matrices are multiplied in bfloat16, where the processor can, and what lies between one attention
and the next is compiled.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from saccade.demo.specification import CheckpointSpec, LanguageSpec, TowerSpec
from saccade.demo.tokenizer import VOCABULARY_SIZE
from saccade.demo.training_batch import Batch, Groups, TowerInputs

HAS_BFLOAT16 = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
"""Whether the processor multiplies bfloat16 itself, about twice as fast as float32."""

_EPSILON = 1e-6
# Of the biases of queries and keys in the language model at first: attention then depends on
# distance from the first step on.
_POSITION_BIAS = 1.2
_TOWER_THETA = 10_000.0
# Of the tower's attention at first: biases of queries and keys for the fastest pairs of each axis,
# so that the patch that is meant scores about 3 above those beside it; and what is left of the
# weights, whose products with such biases would drown that.
_LOUD, _FAST_PAIRS, _QUIET = 5.9, 6, 0.3
# Brightness, red against green, blue against yellow.
_OPPONENTS = ((1.0, 1.0, 1.0), (1.0, -1.0, 0.0), (-0.5, -0.5, 1.0))
_FILTER_SHARES = (0.62, 0.12, 0.12, 0.06, 0.04, 0.04)  # of still parts, then of changes
# CLIP's mean and standard deviation, as in preprocessor_config.json.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


class Norm(nn.Module):
    """Root-mean-square norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, hidden: Tensor) -> Tensor:
        # Written out: compiled, this is fused with its neighbours.
        wide = hidden.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + _EPSILON)
        return wide * scale * self.weight


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


@lru_cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True)


class Layer(nn.Module):
    """A transformer layer: what comes before its attention, and what after, fused if `fast`."""

    fast = False

    def fused(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, compiled if this layer is to be fast."""
        return _compiled(function) if self.fast else function


class TowerAttention(nn.Module):
    """The weights of attention within groups of patches: windows, or whole frames."""

    def __init__(self, spec: TowerSpec) -> None:
        super().__init__()
        self.heads = spec.heads
        self.qkv = nn.Linear(spec.hidden, 3 * spec.hidden)
        self.proj = nn.Linear(spec.hidden, spec.hidden)


class TowerBlock(Layer):
    """One layer of the tower."""

    def __init__(self, spec: TowerSpec) -> None:
        super().__init__()
        self.norm1 = Norm(spec.hidden)
        self.norm2 = Norm(spec.hidden)
        self.attn = TowerAttention(spec)
        self.mlp = GatedMLP(spec.hidden, spec.intermediate, bias=True)

    def forward(self, hidden: Tensor, groups: Groups, cosine: Tensor, sine: Tensor) -> Tensor:
        query, key, value = self.fused(_tower_queries)(self, hidden, cosine, sine)
        mixed = _attend_in_groups(query, key, value, groups)
        return cast(Tensor, self.fused(_tower_rest)(self, hidden, mixed))


def _tower_queries(
    block: TowerBlock, hidden: Tensor, cosine: Tensor, sine: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    states = block.attn.qkv(block.norm1(hidden)).view(len(hidden), 3, block.attn.heads, -1)
    rotated = rotate(states[:, :2], cosine[:, None], sine[:, None])
    return rotated[:, 0], rotated[:, 1], states[:, 2]


def _attend_in_groups(query: Tensor, key: Tensor, value: Tensor, groups: Groups) -> Tensor:
    heads, head_dim = query.shape[1:]
    query, key = query.to(value.dtype), key.to(value.dtype)
    if groups.order is not None:
        query, key, value = (part[groups.order] for part in (query, key, value))
    parts, start = [], 0
    for count, length in groups.runs:
        stop = start + count * length
        q, k, v = (
            part[start:stop].view(count, length, heads, head_dim).transpose(1, 2)
            for part in (query, key, value)
        )
        # Written out: PyTorch's own backward pass on a CPU is slower for groups this small.
        mixed = (q @ k.mT * head_dim**-0.5).softmax(-1, torch.float32).to(v.dtype) @ v
        parts.append(mixed.transpose(1, 2).reshape(stop - start, heads * head_dim))
        start = stop
    mixed = torch.cat(parts)
    return mixed if groups.inverse is None else mixed[groups.inverse]


def _tower_rest(block: TowerBlock, hidden: Tensor, mixed: Tensor) -> Tensor:
    hidden = hidden + block.attn.proj(mixed)
    return cast(Tensor, hidden + block.mlp(block.norm2(hidden)))


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

    @torch.no_grad()
    def start_from_cosines(self, patches: Tensor) -> None:
        """Set the filters to two-dimensional cosines that answer equally loudly to ``patches``.

        Pixels are alike to their neighbours, so that random filters all tell brightness and shapes
        drown in it. Most filters see brightness, some two colour differences, some changes from one
        frame of a patch to the next.
        """
        hidden, _, steps, size, _ = cast(Tensor, self.proj.weight).shape
        assert steps == 2, "a still part and a change"
        moments, channels = torch.tensor([[1.0, 1.0], [-1.0, 1.0]]), torch.tensor(_OPPONENTS)
        shares = [(moment, channel) for moment in moments for channel in channels]
        counts = [round(hidden * share) for share in _FILTER_SHARES]
        counts[0] += hidden - sum(counts)
        phases = torch.outer(torch.arange(size), torch.arange(size) + 0.5) * torch.pi / size
        cosines = phases.cos()  # [frequency, pixel]
        pairs = sorted(
            ((u, v) for u in range(size) for v in range(size)), key=lambda uv: (math.hypot(*uv), uv)
        )
        filters = []
        for (moment, channel), count in zip(shares, counts, strict=True):
            for u, v in pairs[:count]:
                wave = torch.outer(cosines[u], cosines[v])
                filters.append(torch.einsum("c,t,hw->cthw", channel, moment, wave))
        weight = cast(Tensor, self.proj.weight)
        weight.copy_(torch.stack(filters))
        weight /= self(patches).std(0).clamp_min(1e-3).view(-1, 1, 1, 1, 1)

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

    @torch.no_grad()
    def start_with_neighbours(self) -> None:
        """Let every head look at a neighbour of each patch: left and right, above and below.

        Shapes and letters reach over several patches. Attention that starts blind to places has to
        find its neighbours first; this starts as a convolution does and unlearns what it likes.
        """
        for index, block in enumerate(self.blocks):
            attention = cast(TowerBlock, block).attn
            weight, bias = attention.qkv.weight, attention.qkv.bias
            weight[: 2 * len(weight) // 3] *= _QUIET  # queries and keys
            # Queries, keys or values; head; half of a pair; axis; frequency.
            pairs = bias.view(3, attention.heads, 2, 2, -1)
            fast = cast(Tensor, self.frequencies)[:_FAST_PAIRS]
            for head in range(attention.heads):
                axis, step = 1 - index % 2, 1 if head % 2 else -1
                for other in range(2):
                    angle = fast * (step if other == axis else 0)
                    pairs[1, head, 0, other, :_FAST_PAIRS] = _LOUD
                    pairs[0, head, 0, other, :_FAST_PAIRS] = _LOUD * angle.cos()
                    pairs[0, head, 1, other, :_FAST_PAIRS] = _LOUD * angle.sin()

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
            flat = embeddings.view(-1, embeddings.shape[-1]).index_copy(0, batch.cell_places, cells)
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
