"""The same layers and parameters under the same names as vLLM's own model, which needs torchvision
and so runs in a process that has the reference's; and the switch between the two."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import layer_names
import pytest

from saccade.benchmarks.common.stock import stock_environment
from saccade.demo.checkpoints.checkpoint import CheckpointSpec, write_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(CheckpointSpec(), tmp_path_factory.mktemp("names"))


def names(checkpoint: Path, environment: Mapping[str, str] = os.environ) -> Any:
    """What the script prints."""
    out = subprocess.run(
        [sys.executable, layer_names.__file__, str(checkpoint)],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    return json.loads(out.splitlines()[-1])


def test_same_names_as_vllm(checkpoint: Path) -> None:
    ours = names(checkpoint)
    stock = names(checkpoint, stock_environment())
    assert ours["class"] == "saccade.model.qwen2_5_vl"
    assert stock["class"] == "vllm.model_executor.models.qwen2_5_vl"
    assert ours["layers"] == stock["layers"]
    assert ours["parameters"] == stock["parameters"]
