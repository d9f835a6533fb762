"""The vision tower of the training model: windows of one length are one call of attention."""

import math
from typing import cast

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from saccade.demo.checkpoints.specification import CheckpointSpec, TowerSpec
from saccade.demo.training.batch import Groups, TowerInputs
from saccade.demo.training.model.layers import GatedMLP, Layer, Norm, rotate

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
