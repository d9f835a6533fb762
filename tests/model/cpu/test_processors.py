"""An engine in each dtype on lesser processors than this one, imitated in child processes.

Where an imitation ends is said among pytest's warnings.
"""

import functools
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import dtype_answers
import pytest
from child_path import SUPPORT_PATH
from questions import pieces, questions
from reference import Reference
from transformers import AutoTokenizer

from saccade.server.checkpoint.bundled import bundled_checkpoint

AVX512 = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}  # and no instruction for bfloat16
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
NOT_IMITATED = (
    "not imitated: vLLM's own attention, and the operations compiled for this processor, use all "
    "that it has; products of matrices and PyTorch's arithmetic are limited"
)


@pytest.fixture(scope="module")
def is_greedy() -> Callable[[int, tuple[int, ...]], bool]:
    """Whether transformers in float32 chooses these tokens for the question of this number."""
    reference = Reference(bundled_checkpoint())
    tokenizer = AutoTokenizer.from_pretrained(bundled_checkpoint())

    @functools.cache  # the engines agree, and the reference takes seconds
    def check(number: int, answer: tuple[int, ...]) -> bool:
        prompt = pieces(tokenizer, *questions()[number])
        return reference.logits(prompt, list(answer[:-1])).argmax(-1).tolist() == list(answer)

    return check


@pytest.mark.usefixtures("starts_engine")
@pytest.mark.parametrize(
    ("dtype", "limits"),
    [("bfloat16", AVX512), ("float16", AVX512), ("bfloat16", AVX2), ("float32", AVX512)],
    ids=["bfloat16-avx512", "float16-avx512", "bfloat16-avx2", "float32-avx512"],
)
def test_answers_are_those_of_transformers(
    is_greedy: Callable[[int, tuple[int, ...]], bool],
    dtype: str,
    limits: dict[str, str],
    tmp_path: Path,
) -> None:
    warnings.warn(NOT_IMITATED, stacklevel=1)
    command = [sys.executable, dtype_answers.__file__, str(tmp_path / "answers.json"), dtype]
    subprocess.run(command, check=True, env=os.environ | limits | {"PYTHONPATH": SUPPORT_PATH})
    answers = json.loads((tmp_path / "answers.json").read_text())
    assert len(answers) == len(questions())
    for number, answer in enumerate(answers):
        assert is_greedy(number, tuple(answer)), (number, answer)
