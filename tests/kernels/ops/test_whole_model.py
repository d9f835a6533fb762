"""The bundled model through the engine, in each backend of the kernels: the same answers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from child_path import SUPPORT_PATH

from saccade.kernels.dispatch import OPERATIONS
from saccade.server.checkpoint.bundled import bundled_checkpoint

SUPPORT = Path(__file__).resolve().parents[2] / "support/kernels"


def answers(**variables: str) -> dict:
    """Of the engine with these variables in its environment."""
    finished = subprocess.run(
        [sys.executable, SUPPORT / "answers_by_backend.py", bundled_checkpoint()],
        env={**os.environ, "PYTHONPATH": SUPPORT_PATH, **variables},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    (line,) = (line for line in finished.stdout.splitlines() if line.startswith("{"))
    return json.loads(line)


@pytest.fixture(scope="module")
def plain(starts_engine: None) -> dict:
    return answers(SACCADE_KERNELS="reference")


def backends(found: dict) -> dict[str, str]:
    return dict(name.split(": ") for name in found["ran"])


def test_every_operation_runs_on_the_reference_backend(plain):
    assert backends(plain) == dict.fromkeys(OPERATIONS, "reference")
    assert len({tuple(tokens) for tokens in plain["tokens"]}) == 2


def test_every_triton_kernel_runs_and_says_the_same(plain):
    found = answers(SACCADE_KERNELS="triton", TRITON_INTERPRET="1")
    assert backends(found) == dict.fromkeys(OPERATIONS, "triton")
    assert found["tokens"] == plain["tokens"]


def test_the_cpu_backend_says_the_same(plain):
    found = answers(SACCADE_KERNELS="auto")
    assert backends(found)["window_attention"] == backends(found)["full_attention"] == "cpu"
    assert backends(found)["mrope"] == "cpu"
    assert found["tokens"] == plain["tokens"]
