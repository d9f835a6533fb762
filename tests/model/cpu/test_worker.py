"""Workers on a CPU: how often the engine calls them, and what seeds mean there."""

from pathlib import Path

import pytest
from counting_worker import guarded_runner
from engine import engine, greedy
from media_samples import raster
from PIL import Image
from vllm import SamplingParams
from vllm.sampling_params import StructuredOutputsParams

from saccade.demo.checkpoints.checkpoint import CheckpointSpec, write_checkpoint

TOKENS = 16
PROMPTS = [{"prompt": "The quick brown fox"}, {"prompt": "One"}]
# A step takes in this many tokens of prompts, and the seeded ones are longer.
STEP = 32
SEEDED = [
    {"prompt": "What is on the table, and what under it? " * 8},
    {
        "prompt": "<|vision_start|><|image_pad|><|vision_end|>What is this?",
        "multi_modal_data": {"image": [Image.fromarray(raster(3, 1, 224, 252)[0])]},
    },
    {"prompt": "One"},
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(CheckpointSpec(dtype="float32"), tmp_path_factory.mktemp("worker"))


@pytest.fixture(scope="module")
def whole(starts_engine, checkpoint):
    """Of vLLM's own worker, prompts in one piece: greedy and seeded tokens; whether guarded."""
    with engine(checkpoint) as llm:
        (guard,) = llm.apply_model(guarded_runner)
        return greedy(llm, PROMPTS, TOKENS), seeded(llm, 1), guard


@pytest.fixture(scope="module")
def llm(starts_engine, checkpoint):
    """An engine of our worker, which takes prompts in by pieces."""
    with engine(
        checkpoint,
        worker_cls="counting_worker.CountingWorker",
        max_num_batched_tokens=STEP,
        max_num_seqs=4,
    ) as llm:
        yield llm


def seeded(llm, seed, prompts=SEEDED):
    """Sampled tokens of each prompt, asked all at once, each under the same seed."""
    sampling = SamplingParams(temperature=1, seed=seed, max_tokens=TOKENS, ignore_eos=True)
    outputs = llm.generate(prompts, sampling, use_tqdm=False)
    return [list(output.outputs[0].token_ids) for output in outputs]


def test_samples_as_soon_as_it_has_computed(llm, whole):
    expected = whole[0]
    before = llm.collective_rpc("counts")[0]
    assert greedy(llm, PROMPTS, TOKENS) == expected
    steps, asked = llm.collective_rpc("counts")[0]
    assert steps - before[0] >= TOKENS
    assert asked == before[1]

    ruled = SamplingParams(
        temperature=0,
        max_tokens=TOKENS,
        structured_outputs=StructuredOutputsParams(choice=["aye", "no"]),
    )
    free = SamplingParams(temperature=0, max_tokens=TOKENS, ignore_eos=True)
    answers = llm.generate(PROMPTS, [ruled, free], use_tqdm=False)
    assert answers[0].outputs[0].text in ("aye", "no")
    assert list(answers[1].outputs[0].token_ids) == expected[1]
    assert llm.collective_rpc("counts")[0][1] > asked


def test_every_worker_that_makes_our_model_keeps_generators(llm, whole):
    assert whole[2]
    assert llm.apply_model(guarded_runner) == [True]


def test_a_seed_means_the_same_however_a_prompt_is_cut(llm, whole):
    assert [len(llm.get_tokenizer().encode(prompt["prompt"])) > STEP for prompt in SEEDED] == [
        True,
        False,
        False,
    ]  # and the image's tokens come on top
    first = seeded(llm, 1)
    assert first == whole[1]
    # Now from the prefix cache; then one by one, so that steps cut them elsewhere.
    assert seeded(llm, 1) == first
    assert [seeded(llm, 1, [prompt])[0] for prompt in SEEDED] == first
    other = seeded(llm, 2)
    assert all(tokens != others for tokens, others in zip(first, other, strict=True))
