"""A checkpoint with a missing or surplus weight is refused by name."""

import pytest
import torch

from saccade.model.weights import CheckpointNames

PARAMETERS = [
    "visual.blocks.0.attn.qkv.weight",
    "visual.blocks.0.mlp.gate_up_proj.bias",
    "language_model.model.layers.0.self_attn.qkv_proj.weight",
    "language_model.model.norm.weight",
]
COMPLETE = {
    "visual.blocks.0.attn.qkv.weight",
    "visual.blocks.0.mlp.gate_proj.bias",
    "visual.blocks.0.mlp.up_proj.bias",
    "language_model.model.layers.0.self_attn.q_proj.weight",
    "language_model.model.layers.0.self_attn.k_proj.weight",
    "language_model.model.layers.0.self_attn.v_proj.weight",
    "language_model.model.norm.weight",
}


def check(names: set[str]) -> None:
    recorder = CheckpointNames()
    list(recorder.record((name, torch.empty(0)) for name in names))
    recorder.check(PARAMETERS)


def test_complete() -> None:
    check(COMPLETE)


def test_unpacked_vision_attention() -> None:
    packed = "visual.blocks.0.attn.qkv.weight"
    check(COMPLETE - {packed} | {packed.replace("qkv", part) for part in "qkv"})


@pytest.mark.parametrize("name", sorted(COMPLETE - {"visual.blocks.0.attn.qkv.weight"}))
def test_missing(name: str) -> None:
    with pytest.raises(ValueError, match=f"lacks the weights {name}"):
        check(COMPLETE - {name})


def test_surplus_bias() -> None:
    with pytest.raises(ValueError, match=r"no place for the weights language_model.model.norm.bia"):
        check(COMPLETE | {"language_model.model.norm.bias"})
