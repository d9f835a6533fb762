"""The forms of each kernel that are shipped: what its launcher asks for with Qwen2.5-VL's sizes.

In bfloat16, for whole models and for tensor-parallel shares.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from saccade.kernels import (
    full_attention,
    merger,
    mrope,
    patch_embed,
    rotate_packed,
    window_attention,
)
from saccade.kernels.launch.tuning import (
    MERGE_INPUT,
    PATCH_INPUT,
    full_attention_launch,
    rotate_packed_launch,
    window_attention_launch,
)

NUMBER = "bf16"
ATTENTION = ((16, 80), (8, 80), (4, 80), (16, 64), (16, 128))  # heads, head_dim


@dataclass(frozen=True)
class Specialisation:
    """One compiled specialisation of a kernel, as the launcher would ask for it."""

    name: str
    function: Any  # what `triton.jit` returned
    signature: Mapping[str, str]  # type of each argument that is not a constant: "*bf16", "i32"
    constants: Mapping[str, Any]
    divisible: tuple[str, ...] = ()  # arguments that are multiples of 16
    options: Mapping[str, Any] = field(default_factory=dict)


def all_specialisations(architecture: str) -> list[Specialisation]:
    """Those of all kernels; ``architecture`` as `tuning.architecture` names it."""
    return [
        *_window_attention(architecture),
        *_rotate_packed(),
        *_full_attention(architecture),
        *_mrope(),
        _merge_input(),
        *_patch_input(),
    ]


def _window_attention(architecture: str) -> list[Specialisation]:
    launch = window_attention_launch(architecture, torch.bfloat16, 64)
    return [
        Specialisation(
            name=f"window_attention {heads} heads of {head_dim}, {NUMBER}",
            function=window_attention.window_attention_kernel,
            signature={
                "qkv_ptr": f"*{NUMBER}",
                "cos_ptr": "*fp32",
                "sin_ptr": "*fp32",
                "cu_seqlens_ptr": "*i32",
                "out_ptr": f"*{NUMBER}",
            },
            constants=window_attention.launch_constants(heads, head_dim, launch),
            divisible=("qkv_ptr", "cos_ptr", "sin_ptr", "cu_seqlens_ptr", "out_ptr"),
            options=launch.options,
        )
        for heads, head_dim in ATTENTION
    ]


def _rotate_packed() -> list[Specialisation]:
    launch = rotate_packed_launch()
    return [
        Specialisation(
            name=f"rotate_packed {heads} heads of {head_dim}, {NUMBER}",
            function=rotate_packed.rotate_packed_kernel,
            signature={"qkv_ptr": f"*{NUMBER}", "cos_ptr": "*fp32", "sin_ptr": "*fp32"},
            constants={"HEADS": heads, "HEAD_DIM": head_dim, "BLOCK": launch.columns},
            divisible=("qkv_ptr", "cos_ptr", "sin_ptr"),
            options=launch.options,
        )
        for heads, head_dim in ATTENTION
    ]


def _full_attention(architecture: str) -> list[Specialisation]:
    return [
        Specialisation(
            name=f"full_attention {heads} heads of {head_dim}, {NUMBER}",
            function=full_attention.attention_packed_kernel,
            signature={
                "qkv_ptr": f"*{NUMBER}",
                "cu_seqlens_ptr": "*i32",
                "out_ptr": f"*{NUMBER}",
                "query_blocks": "i32",
            },
            constants=full_attention.launch_constants(heads, head_dim, launch),
            divisible=("qkv_ptr", "cu_seqlens_ptr", "out_ptr"),
            options=launch.options,
        )
        for heads, head_dim in ATTENTION
        for launch in (full_attention_launch(architecture, torch.bfloat16, head_dim),)
    ]


def _mrope() -> list[Specialisation]:
    forms = []
    for sections, interleaved in (((16, 24, 24), False), ((24, 20, 20), True)):
        for heads, kv_heads in ((16, 2), (28, 4), (64, 8), (8, 1), (14, 2)):
            constants, options = mrope.configuration(heads, kv_heads, 128, sections, interleaved)
            order = "interleaved" if interleaved else "blocks"
            tensors = ("query_ptr", "key_ptr", "positions_ptr", "cache_ptr")
            form = Specialisation(
                name=f"mrope {heads}/{kv_heads} heads of 128, {order}, {NUMBER}",
                function=mrope.mrope_kernel,
                signature={
                    "query_ptr": f"*{NUMBER}",
                    "key_ptr": f"*{NUMBER}",
                    "positions_ptr": "*i64",
                    "cache_ptr": f"*{NUMBER}",
                    "query_stride": "i32",
                    "key_stride": "i32",
                    "position_stride": "i32",
                },
                constants=constants,
                divisible=(*tensors, "query_stride", "key_stride"),
                options=options,
            )
            forms.append(form)
    return forms


def _merge_input() -> Specialisation:
    return Specialisation(
        name=f"merge_input hidden 1280, units of 4, {NUMBER}",
        function=merger.merge_input_kernel,
        signature={
            "x_ptr": f"*{NUMBER}",
            "weight_ptr": f"*{NUMBER}",
            "unit_order_ptr": "*i64",
            "out_ptr": f"*{NUMBER}",
            "stride": "i32",
            "eps": "fp32",
        },
        constants=merger.launch_constants(1280, 4),
        divisible=("x_ptr", "weight_ptr", "unit_order_ptr", "out_ptr", "stride"),
        options=MERGE_INPUT.options,
    )


def _patch_input() -> list[Specialisation]:
    offsets = ("unit_offsets_ptr", "row_bytes_ptr", "frame_bytes_ptr")
    return [
        Specialisation(
            name=f"patch_input {kind}, patches of 14, units of 2x2, {NUMBER}",
            function=patch_embed.patch_input_kernel,
            signature={
                "pixel_pairs_ptr": "*u16",
                **dict.fromkeys(offsets, "*i64"),
                "out_ptr": f"*{NUMBER}",
            },
            constants=patch_embed.launch_constants(frames, 14, 2),
            divisible=("pixel_pairs_ptr", *offsets, "out_ptr"),
            options=PATCH_INPUT.options,
        )
        for kind, frames in (("image", 1), ("video", 2))
    ]
