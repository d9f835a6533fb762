"""Checkpoints of int8 weights, as llm-compressor writes them (W8A8, compressed-tensors)."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

# Of both the tower and the language model.
_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_LAYERS += ("attn.qkv", "attn.proj")
_NUMBERS = {"num_bits": 8, "type": "int", "symmetric": True}


def quantise(checkpoint: Path) -> None:
    """Gives the linear layers of a checkpoint int8 weights, with a scale for each row."""
    file, config_file = checkpoint / "model.safetensors", checkpoint / "config.json"
    weights: dict[str, torch.Tensor] = {}
    for name, weight in load_file(file).items():
        weights[name] = weight
        if weight.ndim == 2 and name.removesuffix(".weight").endswith(_LAYERS):
            scale = weight.float().abs().amax(1, keepdim=True) / 127
            weights[name] = (weight.float() / scale).round().to(torch.int8)
            weights[f"{name}_scale"] = scale
    save_file(weights, file, metadata={"format": "pt"})
    config = json.loads(config_file.read_text())
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head", "re:.*merger.*", "re:.*patch_embed.*"],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {**_NUMBERS, "strategy": "channel", "dynamic": False},
                "input_activations": {**_NUMBERS, "strategy": "token", "dynamic": True},
            }
        },
    }
    config_file.write_text(json.dumps(config))


def int8_layers(model: Any) -> set[str]:
    """Runs in the worker: which part's layers vLLM multiplies as int8, by their last name.

    Their weights are packed by then, for the processor.
    """
    return {
        f"{name.split('.')[0]} {name.split('.')[-1]}"
        for name, layer in model.named_modules()
        if "W8A8Int8" in type(getattr(layer, "scheme", None)).__name__
    }
