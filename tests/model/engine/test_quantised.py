"""An int8 checkpoint (W8A8) on our model class, beside the one it was made from."""

import pytest
from engine import engine, next_logits, tower_output
from media_samples import raster
from quantised import int8_layers, quantise
from reference import Medium

from saccade.demo.checkpoints.checkpoint import CheckpointSpec, write_checkpoint
from saccade.demo.checkpoints.tokenizer import VOCABULARY_SIZE
from saccade.kernels.cpu.processor import processor

PICTURE = Medium(raster(7, 1, 224, 308))
PROMPTS = [{"prompt_token_ids": list(range(start, start + 20))} for start in (5, 300, 900)]
# What int8 activations leave of the figures of a random model. Without VNNI oneDNN halves the
# weights first, so that two products fit into 16 bits ("Nuances of int8 Computations").
LARGEST_ERROR = 0.15 if "AVX512-VNNI" in processor().features else 0.3


def outcome(folder):
    """Which layers are int8; the tower's output; logits."""
    with engine(folder, dtype="bfloat16") as llm:
        (layers,) = llm.apply_model(int8_layers)
        return layers, tower_output(llm, [PICTURE]), next_logits(llm, PROMPTS, VOCABULARY_SIZE)


@pytest.fixture(scope="module")
def both(starts_engine, tmp_path_factory):
    whole, small = (tmp_path_factory.mktemp(name) for name in ("whole", "small"))
    for folder in (whole, small):
        write_checkpoint(CheckpointSpec(dtype="bfloat16"), folder)
    quantise(small)
    return outcome(whole), outcome(small)


def test_tower_and_language_model_are_int8(both):
    (of_whole, *_), (of_small, *_) = both
    assert of_whole == set()
    assert of_small == {
        *(f"visual {name}" for name in ("qkv", "proj", "gate_up_proj", "down_proj")),
        *(f"language_model {name}" for name in ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")),
    }


@pytest.mark.parametrize("part", [1, 2], ids=["tower", "logits"])
def test_figures_stay_near(both, part):
    whole, small = (outcome[part] for outcome in both)
    error = (small - whole).norm() / whole.norm()
    assert 0 < error < LARGEST_ERROR
