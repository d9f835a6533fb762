"""An engine in each dtype on lesser processors than this one, imitated in child processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import dtype_answers
import pytest
from questions import TOKENS, pieces, questions
from reference import Reference
from transformers import AutoTokenizer

from saccade.demo.checkpoint import bundled_checkpoint

AVX512 = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}  # and no instruction for bfloat16
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
# What no variable reaches: said in the output of every run.
NOT_IMITATED = (
    "vLLM's own attention and what was compiled for this very processor use all that it has; "
    "no processor can be imitated that has more than this one"
)


@pytest.fixture(scope="module")
def truth() -> list[list[int]]:
    """The greedy tokens of transformers in float32, up to the end of each answer."""
    reference = Reference(bundled_checkpoint())
    tokenizer = AutoTokenizer.from_pretrained(bundled_checkpoint())
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    answers = []
    for question in questions():
        answer: list[int] = []
        prompt = pieces(tokenizer, *question)
        while len(answer) < TOKENS and end not in answer:
            answer.append(int(reference.logits(prompt, answer)[-1].argmax()))
        answers.append(answer)
    return answers


@pytest.mark.parametrize(
    ("dtype", "limits"),
    [("bfloat16", AVX512), ("float16", AVX512), ("bfloat16", AVX2), ("float32", AVX2)],
    ids=["bfloat16-avx512", "float16-avx512", "bfloat16-avx2", "float32-avx2"],
)
def test_answers_are_those_of_transformers(
    truth: list[list[int]],
    dtype: str,
    limits: dict[str, str],
    tmp_path: Path,
) -> None:
    command = [sys.executable, dtype_answers.__file__, str(tmp_path / "answers.json"), dtype]
    subprocess.run(command, check=True, env=os.environ | limits)
    assert json.loads((tmp_path / "answers.json").read_text()) == truth
