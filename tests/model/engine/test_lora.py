"""An adapter on the tower, the merger and the language model gives what merged weights give."""

import json
from pathlib import Path

import pytest
import torch
from engine import engine, greedy
from media_samples import raster
from PIL import Image
from reference import Medium, Reference
from safetensors.torch import load_file, save_file

from saccade.demo.checkpoints.checkpoint import CheckpointSpec, write_checkpoint

RANK, ALPHA, STEPS = 4, 8, 16
TARGETS = (
    "visual.blocks.0.attn.qkv",
    "visual.blocks.3.attn.proj",
    "visual.blocks.5.mlp.down_proj",
    "visual.merger.mlp.0",
    "model.layers.0.self_attn.q_proj",
    "model.layers.2.mlp.up_proj",
)


def write_adapter(base: Path, adapter: Path, merged: Path) -> None:
    """A random adapter on `TARGETS`, and the same checkpoint with the adapter merged in."""
    generator = torch.Generator().manual_seed(11)
    weights = load_file(base / "model.safetensors")
    deltas: dict[str, torch.Tensor] = {}
    for name in TARGETS:
        out_size, in_size = weights[f"{name}.weight"].shape
        down = torch.randn(RANK, in_size, generator=generator) * in_size**-0.5
        up = torch.randn(out_size, RANK, generator=generator) * 0.3
        deltas[f"base_model.model.{name}.lora_A.weight"] = down
        deltas[f"base_model.model.{name}.lora_B.weight"] = up
        weights[f"{name}.weight"] += up @ down * (ALPHA / RANK)
    adapter.mkdir()
    save_file(deltas, adapter / "adapter_model.safetensors")
    modules = sorted({name.rpartition(".")[2] for name in TARGETS})
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": modules}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    save_file(weights, merged / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.usefixtures("starts_engine")
def test_adapter_equals_merged_weights(tmp_path: Path) -> None:
    from vllm.lora.request import LoRARequest

    spec = CheckpointSpec(dtype="float32")
    base = write_checkpoint(spec, tmp_path / "base")
    merged = write_checkpoint(spec, tmp_path / "merged")
    write_adapter(base, tmp_path / "adapter", merged)
    medium = Medium(raster(1, 1, 140, 196))
    options = {"enable_lora": True, "max_lora_rank": 8, "enable_tower_connector_lora": True}
    with engine(base, **options) as llm:
        words = llm.get_tokenizer().encode(" What is this?")
        without, plain = Reference(base), [medium, words]
        prompt = {
            "prompt_token_ids": [without.placeholder(medium), *words],
            "multi_modal_data": {"image": [Image.fromarray(medium.raster[0])]},
        }
        request = LoRARequest("adapter", 1, str(tmp_path / "adapter"))
        adapted = greedy(llm, [prompt], STEPS, lora_request=request)[0]
        unadapted = greedy(llm, [prompt], STEPS)[0]
    assert Reference(merged).logits(plain, adapted[:-1]).argmax(-1).tolist() == adapted
    assert without.logits(plain, unadapted[:-1]).argmax(-1).tolist() == unadapted
    assert adapted != unadapted
