"""Writes Qwen2.5-VL checkpoints with random weights.

The folder has the files and the shape of a published checkpoint, so that transformers, vLLM and
this server load it the way they load a real one.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from safetensors.torch import save_file

from saccade.demo.checkpoints.specification import CheckpointSpec, LanguageSpec, TowerSpec
from saccade.demo.checkpoints.tokenizer import VOCABULARY_SIZE, token_id, write_tokenizer
from saccade.demo.checkpoints.weights import random_weights
from saccade.server.engine.prompt.chat_templates import TEMPLATE

__all__ = [
    "CheckpointSpec",
    "LanguageSpec",
    "TowerSpec",
    "random_checkpoint",
    "write_checkpoint",
    "write_configuration",
]

_HERE = Path(__file__).parent
# Everything that decides the files' contents beside the specification: part of the cache key.
_RECIPE = ("checkpoint.py", "weights.py", "tokenizer.py", "vocabulary_text.py", TEMPLATE)


def model_config(spec: CheckpointSpec) -> dict[str, object]:
    """The contents of config.json, in the flat shape that the published checkpoints have."""
    tower, language = spec.tower, spec.language
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "attention_dropout": 0.0,
        "bos_token_id": token_id("<|endoftext|>"),
        "eos_token_id": token_id("<|im_end|>"),
        "vision_start_token_id": token_id("<|vision_start|>"),
        "vision_end_token_id": token_id("<|vision_end|>"),
        "vision_token_id": token_id("<|vision_pad|>"),
        "image_token_id": token_id("<|image_pad|>"),
        "video_token_id": token_id("<|video_pad|>"),
        "hidden_act": "silu",
        "hidden_size": language.hidden,
        "initializer_range": 0.02,
        "intermediate_size": language.intermediate,
        "max_position_embeddings": language.max_position_embeddings,
        "max_window_layers": language.layers,
        "model_type": "qwen2_5_vl",
        "num_attention_heads": language.heads,
        "num_hidden_layers": language.layers,
        "num_key_value_heads": language.kv_heads,
        "rms_norm_eps": 1e-06,
        "rope_theta": language.rope_theta,
        "sliding_window": language.max_position_embeddings,
        "tie_word_embeddings": language.tie_word_embeddings,
        "torch_dtype": spec.dtype,
        "transformers_version": "4.41.2",
        "use_cache": True,
        "use_sliding_window": False,
        "vision_config": {
            "depth": tower.depth,
            "hidden_act": "silu",
            "hidden_size": tower.hidden,
            "intermediate_size": tower.intermediate,
            "num_heads": tower.heads,
            "in_chans": 3,
            "out_hidden_size": language.hidden,
            "patch_size": tower.patch_size,
            "spatial_merge_size": tower.merge_size,
            "spatial_patch_size": tower.patch_size,
            "window_size": tower.window_size,
            "fullatt_block_indexes": list(tower.fullatt_block_indexes),
            "tokens_per_second": spec.tokens_per_second,
            "temporal_patch_size": tower.temporal_patch_size,
        },
        "rope_scaling": {"type": "mrope", "mrope_section": list(language.mrope_section)},
        "vocab_size": VOCABULARY_SIZE,
    }


def _generation_config(spec: CheckpointSpec) -> dict[str, object]:
    return {
        "bos_token_id": token_id("<|endoftext|>"),
        "pad_token_id": token_id("<|endoftext|>"),
        "do_sample": True,
        "eos_token_id": [token_id("<|im_end|>"), token_id("<|endoftext|>")],
        "repetition_penalty": spec.repetition_penalty,
        "temperature": 0.000001,
        "transformers_version": "4.49.0",
    }


def _preprocessor_config(spec: CheckpointSpec) -> dict[str, object]:
    return {
        "min_pixels": 3136,
        "max_pixels": 12845056,
        "patch_size": spec.tower.patch_size,
        "temporal_patch_size": spec.tower.temporal_patch_size,
        "merge_size": spec.tower.merge_size,
        # CLIP's mean and standard deviation.
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
    }


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_configuration(spec: CheckpointSpec, folder: Path) -> Path:
    """Write all of the checkpoint but its weights into `folder` (made if absent); return it."""
    folder.mkdir(parents=True, exist_ok=True)
    template = TEMPLATE.read_text(encoding="utf-8")
    _write_json(folder / "config.json", model_config(spec))
    _write_json(folder / "generation_config.json", _generation_config(spec))
    _write_json(folder / "preprocessor_config.json", _preprocessor_config(spec))
    _write_json(folder / "chat_template.json", {"chat_template": template})
    write_tokenizer(folder, template, spec.language.max_position_embeddings)
    return folder


def write_checkpoint(spec: CheckpointSpec, folder: Path) -> Path:
    """Write the checkpoint that `spec` describes into `folder` (made if absent) and return it."""
    write_configuration(spec, folder)
    weights = folder / "model.safetensors"
    save_file(random_weights(spec), weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # safetensors makes it private; a served model may run as another user
    return folder


def _fingerprint(spec: CheckpointSpec) -> str:
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(spec), sort_keys=True).encode())
    for name in _RECIPE:
        digest.update((_HERE / name).read_bytes())
    return digest.hexdigest()[:12]


def random_checkpoint(spec: CheckpointSpec | None = None) -> Path:
    """The folder of a checkpoint with random weights, made in the user's cache if it is not there.

    The folder appears in one step, so that processes that start together never see half of it.
    """
    spec = spec or CheckpointSpec()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "saccade"
    target = cache / f"random-{_fingerprint(spec)}"
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix="random-draft-", dir=cache))
    try:
        write_checkpoint(spec, draft)
        draft.chmod(0o755)  # mkdtemp makes it private; a served model may run as another user
        try:
            draft.rename(target)
        except OSError:
            if not target.is_dir():  # else: another process was first, with the same bytes
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target
