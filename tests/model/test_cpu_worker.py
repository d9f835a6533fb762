"""The engine asks a worker on a CPU once a step, and twice where a grammar rules the answer."""

from pathlib import Path

import pytest
from engine import engine, greedy
from vllm import SamplingParams
from vllm.sampling_params import StructuredOutputsParams

from saccade.demo.checkpoint import CheckpointSpec, write_checkpoint

TOKENS = 16
PROMPTS = [{"prompt": "The quick brown fox"}, {"prompt": "One"}]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(CheckpointSpec(dtype="float32"), tmp_path_factory.mktemp("worker"))


def test_samples_as_soon_as_it_has_computed(checkpoint: Path) -> None:
    with engine(checkpoint) as llm:
        expected = greedy(llm, PROMPTS, TOKENS)
    with engine(checkpoint, worker_cls="counting_worker.CountingWorker") as llm:
        assert greedy(llm, PROMPTS, TOKENS) == expected
        steps, asked = llm.collective_rpc("counts")[0]
        assert steps >= TOKENS
        assert asked == 0

        ruled = SamplingParams(
            temperature=0,
            max_tokens=TOKENS,
            structured_outputs=StructuredOutputsParams(choice=["aye", "no"]),
        )
        free = SamplingParams(temperature=0, max_tokens=TOKENS, ignore_eos=True)
        answers = llm.generate(PROMPTS, [ruled, free], use_tqdm=False)
        assert answers[0].outputs[0].text in ("aye", "no")
        assert list(answers[1].outputs[0].token_ids) == expected[1]
        assert llm.collective_rpc("counts")[0][1] > 0
