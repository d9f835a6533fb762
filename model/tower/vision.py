"""The vision tower: patch embedding, windowed and full attention blocks, merger.

Tensors are ``[patches, hidden]`` with the media of a call one after another, in window order (see
`windows`). Layers are vLLM's parallel ones under the weight names of published checkpoints, so
tensor parallelism, the data-parallel tower, quantisation and LoRA work as for vLLM's own model.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig
from vllm.distributed import get_tensor_model_parallel_world_size
from vllm.distributed.utils import divide
from vllm.model_executor.layers.activation import get_act_and_mul_fn
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.linear import (
    ColumnParallelLinear,
    MergedColumnParallelLinear,
    QKVParallelLinear,
    RowParallelLinear,
)
from vllm.model_executor.layers.quantization import QuantizationConfig
from vllm.model_executor.models.utils import (
    AutoWeightsLoader,
    WeightsMapper,
    cast_overflow_tensors,
)

from saccade.kernels.launch.tuning import LONGEST_WINDOW
from saccade.kernels.operations import (
    full_attention,
    merge_input,
    patch_input,
    window_attention,
)
from saccade.model.checkpoint_config import Normalisation
from saccade.model.compat import is_vit_use_data_parallel
from saccade.model.tower.inputs import Segments, TowerGeometry, TowerInputs, prepare_inputs
from saccade.model.tower.patch_embed import PatchEmbed

NORM_EPS = 1e-6  # fixed by the reference; not in any configuration
ROPE_THETA = 10000.0
# That an MLP works on at once on a CPU: what lies between its products then stays in the cache.
_CPU_ROWS = 1024


def tower_tp_size() -> int:
    """Workers that share one tower: with ``--mm-encoder-tp-mode data`` each has a whole one."""
    return 1 if is_vit_use_data_parallel() else get_tensor_model_parallel_world_size()


def linear_options(quant_config: QuantizationConfig | None) -> dict[str, Any]:
    """What all linear layers of the tower have in common."""
    return {
        "bias": True,
        "return_bias": False,
        "quant_config": quant_config,
        "disable_tp": is_vit_use_data_parallel(),
    }


class VisionAttention(nn.Module):
    """Multi-head attention within segments, with 2D rotary embedding of queries and keys."""

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        full: bool,
        quant_config: QuantizationConfig | None,
        prefix: str,
    ) -> None:
        super().__init__()
        options = linear_options(quant_config)
        self.attend = full_attention if full else window_attention
        self.head_dim = divide(hidden_size, num_heads)
        self.num_heads = divide(num_heads, tower_tp_size())
        self.qkv = QKVParallelLinear(
            hidden_size, self.head_dim, num_heads, prefix=f"{prefix}.qkv", **options
        )
        self.proj = RowParallelLinear(hidden_size, hidden_size, prefix=f"{prefix}.proj", **options)

    def forward(
        self, x: torch.Tensor, segments: Segments, cos: torch.Tensor, sin: torch.Tensor
    ) -> torch.Tensor:
        # [patches, 3, heads, head_dim]
        qkv = self.qkv(x).view(-1, 3, self.num_heads, self.head_dim)
        context = self.attend(qkv, cos, sin, segments.cu_seqlens, segments.max_seqlen)
        if segments.padding_mask is not None:
            # Not written by attention: whatever the memory held, a NaN for instance.
            context.masked_fill_(segments.padding_mask, 0)
        return self.proj(context)


class VisionMLP(nn.Module):
    """Gated MLP with biases."""

    def __init__(
        self,
        hidden_size: int,
        intermediate_size: int,
        hidden_act: str,
        quant_config: QuantizationConfig | None,
        prefix: str,
    ) -> None:
        super().__init__()
        options = linear_options(quant_config)
        self.gate_up_proj = MergedColumnParallelLinear(
            hidden_size, [intermediate_size] * 2, prefix=f"{prefix}.gate_up_proj", **options
        )
        self.down_proj = RowParallelLinear(
            intermediate_size, hidden_size, prefix=f"{prefix}.down_proj", **options
        )
        self.act_fn = get_act_and_mul_fn(hidden_act)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type == "cpu" and len(x) > _CPU_ROWS:
            return torch.cat([self.forward(rows) for rows in torch.split(x, _CPU_ROWS)])
        return self.down_proj(self.act_fn(self.gate_up_proj(x)))


class VisionBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(
        self,
        config: PretrainedConfig,
        full: bool,
        quant_config: QuantizationConfig | None,
        prefix: str,
    ) -> None:
        super().__init__()
        hidden_size = config.hidden_size
        self.norm1 = RMSNorm(hidden_size, eps=NORM_EPS)
        self.norm2 = RMSNorm(hidden_size, eps=NORM_EPS)
        self.attn = VisionAttention(
            hidden_size, config.num_heads, full, quant_config, f"{prefix}.attn"
        )
        self.mlp = VisionMLP(
            hidden_size, config.intermediate_size, config.hidden_act, quant_config, f"{prefix}.mlp"
        )

    def forward(
        self,
        x: torch.Tensor,
        residual: torch.Tensor | None,
        segments: Segments,
        cos: torch.Tensor,
        sin: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The residual stream and what is still to be added to it, which the next norm does."""
        x, residual = (self.norm1(x), x) if residual is None else self.norm1(x, residual)
        x, residual = self.norm2(self.attn(x, segments, cos, sin), residual)
        return self.mlp(x), residual


class PatchMerger(nn.Module):
    """Each unit of ``merge_size**2`` patches to one token of the language model."""

    def __init__(
        self, config: PretrainedConfig, quant_config: QuantizationConfig | None, prefix: str
    ) -> None:
        super().__init__()
        options = linear_options(quant_config)
        self.unit = config.spatial_merge_size**2
        size = config.hidden_size * self.unit
        self.ln_q = RMSNorm(config.hidden_size, eps=NORM_EPS)
        self.mlp = nn.Sequential(
            ColumnParallelLinear(size, size, prefix=f"{prefix}.mlp.0", **options),
            nn.GELU(),
            RowParallelLinear(size, config.out_hidden_size, prefix=f"{prefix}.mlp.2", **options),
        )

    def forward(self, x: torch.Tensor, unit_order: torch.Tensor) -> torch.Tensor:
        """``[patches, hidden]`` in the order of the sequence to tokens in raster order."""
        return self.mlp(merge_input(x, self.ln_q.weight, NORM_EPS, unit_order, self.unit))


class VisionTower(nn.Module):
    """uint8 rasters to tokens of the language model."""

    hf_to_vllm_mapper = WeightsMapper(
        orig_to_new_stacked={
            ".attn.q.": (".attn.qkv.", "q"),
            ".attn.k.": (".attn.qkv.", "k"),
            ".attn.v.": (".attn.qkv.", "v"),
            ".mlp.gate_proj.": (".mlp.gate_up_proj.", 0),
            ".mlp.up_proj.": (".mlp.gate_up_proj.", 1),
        }
    )

    def __init__(
        self,
        config: PretrainedConfig,
        normalisation: Normalisation,
        quant_config: QuantizationConfig | None,
        prefix: str,
    ) -> None:
        super().__init__()
        self.geometry = TowerGeometry(
            patch_size=config.patch_size,
            temporal_patch_size=config.temporal_patch_size,
            merge_size=config.spatial_merge_size,
            window=config.window_size // config.patch_size // config.spatial_merge_size,
            slot_bytes=config.in_channels * config.patch_size**2,
        )
        # The names by which vLLM's data-parallel tower asks.
        self.spatial_merge_size = config.spatial_merge_size
        self.out_hidden_size = config.out_hidden_size
        self.full_attention_layers = frozenset(config.fullatt_block_indexes)
        head_dim = divide(config.hidden_size, config.num_heads)
        # Half of the rotated pairs turn with the row, half with the column.
        exponents = torch.arange(0, head_dim // 2, 2, dtype=torch.float32) / (head_dim // 2)
        self.inverse_frequencies: torch.Tensor
        self.register_buffer("inverse_frequencies", ROPE_THETA**-exponents, persistent=False)

        self.patch_embed = PatchEmbed(config, normalisation)
        # Windows too large for one tile take the kernel that walks over segments of any length.
        large = self.geometry.window_units * self.geometry.unit > LONGEST_WINDOW
        self.blocks = nn.ModuleList(
            VisionBlock(
                config,
                large or layer in self.full_attention_layers,
                quant_config,
                f"{prefix}.blocks.{layer}",
            )
            for layer in range(config.depth)
        )
        self.merger = PatchMerger(config, quant_config, f"{prefix}.merger")

    @property
    def dtype(self) -> torch.dtype:
        return self.patch_embed.proj.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.patch_embed.proj.weight.device

    def forward(self, pixels: torch.Tensor, grid_thw: Sequence[Sequence[int]]) -> torch.Tensor:
        """Encode the media of one kind (all images or all videos).

        Args:
            pixels: uint8 ``[patches, K]``, rasters in memory order (see `patch_input`).
            grid_thw: ``(t, h, w)`` of each medium in patches, on the host.

        Returns:
            ``[merged tokens, out_hidden_size]``, media one after another in raster order.
        """
        return self.encode(prepare_inputs(pixels, grid_thw, self.geometry, self.device))

    def encode(self, inputs: TowerInputs) -> torch.Tensor:
        """The part of `forward` on the device, which looks at shapes and at no values.

        Returns:
            ``[units, out_hidden_size]``, in the places that ``inputs.unit_order`` names.
        """
        cos, sin = self.rotary(inputs.positions)
        patches = patch_input(
            inputs.pixels,
            inputs.unit_offsets,
            inputs.row_bytes,
            inputs.frame_bytes,
            self.geometry.patch_size,
            self.geometry.merge_size,
            self.dtype,
        )
        x, residual = self.patch_embed(patches), None
        for layer, block in enumerate(self.blocks):
            full = layer in self.full_attention_layers
            x, residual = block(x, residual, inputs.frames if full else inputs.windows, cos, sin)
        x = x + residual
        if x.dtype == torch.float16:
            # The last block of published checkpoints overflows float16 on long sequences.
            x = cast_overflow_tensors(x)
        return self.merger(x, inputs.unit_order)

    def rotary(self, units: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines ``[patches, head_dim // 2]``, from each unit's row and column.

        Computed from the positions at each call: no table to keep, for any size of image.
        """
        side = torch.arange(self.spatial_merge_size, device=units.device)
        # [2, patches of a unit]: rows and columns within it
        within = torch.stack(torch.meshgrid(side, side, indexing="ij")).flatten(1)
        patches = (units[:, :, None] * self.spatial_merge_size + within[:, None]).flatten(1)
        angles = (patches.T[:, :, None].float() * self.inverse_frequencies).flatten(1)
        return angles.cos(), angles.sin()

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        self.patch_embed.weight_changed()
        return AutoWeightsLoader(self).load_weights(weights, mapper=self.hf_to_vllm_mapper)
