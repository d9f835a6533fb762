"""The written checkpoint is one that transformers loads as a published Qwen2.5-VL checkpoint."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from saccade.demo.checkpoints.checkpoint import (
    CheckpointSpec,
    LanguageSpec,
    TowerSpec,
    random_checkpoint,
    write_checkpoint,
)
from saccade.demo.checkpoints.tokenizer import ADDED_TOKENS, SPECIAL_TOKENS, token_id

SMALL = CheckpointSpec(
    tower=TowerSpec(depth=2, hidden=64, heads=2, intermediate=96, fullatt_block_indexes=(1,)),
    language=LanguageSpec(
        layers=2, hidden=128, heads=4, intermediate=192, mrope_section=(4, 6, 6), kv_heads=2
    ),
    dtype="float32",
)


@pytest.fixture(scope="module")
def folder() -> Path:
    return random_checkpoint()


def test_transformers_reads_the_configuration(folder: Path):
    config = transformers.AutoConfig.from_pretrained(folder)
    assert type(config).__name__ == "Qwen2_5_VLConfig"
    assert config.vision_config.depth == 6
    assert config.vision_config.fullatt_block_indexes == [2, 5]
    assert config.vision_config.out_hidden_size == config.text_config.hidden_size == 256
    assert config.vision_config.tokens_per_second == 2
    assert config.text_config.rope_parameters["mrope_section"] == [16, 24, 24]
    assert config.text_config.rope_parameters["rope_theta"] == 1_000_000
    assert config.tie_word_embeddings
    assert config.image_token_id == token_id("<|image_pad|>")
    assert config.video_token_id == token_id("<|video_pad|>")


def test_tokenizer_has_qwens_added_tokens_in_order(folder: Path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.is_fast
    ids = tokenizer.convert_tokens_to_ids(list(ADDED_TOKENS))
    assert ids == list(range(len(tokenizer) - len(ADDED_TOKENS), len(tokenizer)))
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert tokenizer.bos_token is None
    config = json.loads((folder / "config.json").read_text())
    assert config["vocab_size"] == len(tokenizer)
    assert tokenizer("<|vision_start|><|image_pad|><|vision_end|>").input_ids == [
        config["vision_start_token_id"],
        config["image_token_id"],
        config["vision_end_token_id"],
    ]


@pytest.mark.parametrize(
    "text",
    ['Two red cars.\n\n  It\'s 12:30 — naïve 東京 🚗\t{"bbox_2d": [10, 20]}', "", " ", "e\u0301"],
)
def test_any_text_survives_the_tokenizer(folder: Path, text: str):
    import unicodedata

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer(text).input_ids) == unicodedata.normalize("NFC", text)


def test_special_tokens_are_skipped_and_markup_is_kept(folder: Path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = "".join(SPECIAL_TOKENS) + "<tool_call>x</tool_call>"
    decoded = tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True)
    assert decoded == "<tool_call>x</tool_call>"


def test_digits_stand_alone_and_words_are_whole(folder: Path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.tokenize("2024") == ["2", "0", "2", "4"]
    assert tokenizer.tokenize(" the picture shows people") == [
        "Ġthe",
        "Ġpicture",
        "Ġshows",
        "Ġpeople",
    ]


def test_every_weight_is_used_and_none_is_missing(tmp_path: Path):
    write_checkpoint(dataclasses.replace(SMALL, dtype="bfloat16"), tmp_path)
    _, info = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info.values()), info
    stored = load_file(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}


def test_both_layouts_hold_the_same_tensors(tmp_path: Path):
    untied = dataclasses.replace(
        SMALL, language=dataclasses.replace(SMALL.language, tie_word_embeddings=False)
    )
    published = load_file(write_checkpoint(untied, tmp_path / "a") / "model.safetensors")
    nested = load_file(
        write_checkpoint(dataclasses.replace(untied, layout="nested"), tmp_path / "b")
        / "model.safetensors"
    )
    renamed = {
        name.replace("model.visual.", "visual.").replace("model.language_model.", "model."): tensor
        for name, tensor in nested.items()
    }
    assert "lm_head.weight" in nested
    assert "model.language_model.layers.1.self_attn.q_proj.bias" in nested
    assert "model.visual.blocks.1.attn.qkv.bias" in nested
    assert published.keys() == renamed.keys()
    assert all(torch.equal(published[name], renamed[name]) for name in published)


def test_the_seed_decides_the_weights(tmp_path: Path):
    name = "visual.patch_embed.proj.weight"
    first, again, other = (
        load_file(
            write_checkpoint(dataclasses.replace(SMALL, seed=seed), tmp_path / str(index))
            / "model.safetensors"
        )[name]
        for index, seed in enumerate((0, 0, 1))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_another_process_writes_the_same_bytes(folder: Path, tmp_path: Path):
    script = (
        "from saccade.demo.checkpoints.checkpoint import random_checkpoint;"
        "print(random_checkpoint())"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    built = Path(result.stdout.strip())
    assert built.parent == tmp_path / "saccade"
    assert [entry.name for entry in built.parent.iterdir()] == [built.name]
    for file in folder.iterdir():
        assert (built / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize(
    ("factory", "values", "message"),
    [
        (LanguageSpec, {"heads": 3}, "divide"),
        (LanguageSpec, {"mrope_section": (1, 2, 3)}, "half the head_dim 128"),
        (TowerSpec, {"hidden": 162}, "multiple"),
        (TowerSpec, {"fullatt_block_indexes": (6,)}, "below depth 6"),
    ],
)
def test_an_impossible_shape_is_refused(factory, values, message):
    with pytest.raises(ValueError, match=message):
        factory(**values)
