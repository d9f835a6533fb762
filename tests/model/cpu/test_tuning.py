"""Tunings for a CPU: in an engine that serves our model, and nowhere in one that serves another."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from engine import engine, greedy
from vllm.model_executor.custom_op import op_registry_oot
from vllm_parts import SCHEDULER_FILE, parts_of_process, parts_of_worker

from saccade.demo.checkpoints.checkpoint import CheckpointSpec, write_checkpoint
from saccade.demo.checkpoints.tokenizer import VOCABULARY_SIZE, write_tokenizer
from saccade.model.cpu.idle_wait import block_instead_of_spin, spin_again
from saccade.model.cpu.replaced_layers import replaced_layers
from saccade.model.cpu.tuning import CPU_TUNING_ENV
from saccade.server.engine import flags

SPINS = "vllm.distributed.device_communicators.shm_broadcast"
BLOCKS = "saccade.model.cpu.idle_wait"


@pytest.fixture
def of_scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the process of the engine's core uses; with the option that makes it tell."""
    told = tmp_path / "parts.json"
    monkeypatch.setenv(SCHEDULER_FILE, str(told))
    return lambda: json.loads(told.read_text())


@pytest.fixture
def tuned_here() -> Any:
    """This process has served our model, as far as its classes are concerned."""
    block_instead_of_spin()
    assert parts_of_process()["wait"] == BLOCKS
    yield
    spin_again()


@pytest.mark.usefixtures("starts_engine")
def test_ours_is_tuned_in_every_process(tmp_path: Path, of_scheduler: Any) -> None:
    folder = write_checkpoint(CheckpointSpec(dtype="float32"), tmp_path / "ours")
    with engine(folder, scheduler_cls="vllm_parts.ReportingScheduler") as llm:
        (worker,) = llm.apply_model(parts_of_worker)
    spin_again()  # this process has made a processor
    assert of_scheduler()["wait"] == BLOCKS
    assert worker == {
        "wait": BLOCKS,
        "layers": [],  # of other models that this process might make
        "of_model": ["saccade.model.cpu.layers", "saccade.model.rotary"],
    }


@pytest.mark.usefixtures("starts_engine", "tuned_here")
def test_another_model_is_left_as_it_is(tmp_path: Path, of_scheduler: Any) -> None:
    folder = write_text_model(tmp_path / "other")
    options = {"limit_mm_per_prompt": None, "mm_processor_kwargs": None, "load_format": "dummy"}
    with engine(folder, scheduler_cls="vllm_parts.ReportingScheduler", **options) as llm:
        (worker,) = llm.apply_model(parts_of_worker)
        assert len(greedy(llm, [{"prompt": "One"}], 2)[0]) == 2
    core = of_scheduler()
    assert (core["wait"], core["layers"]) == (SPINS, [])
    assert worker == {
        "wait": SPINS,
        "layers": [],
        "of_model": [
            "vllm.model_executor.layers.activation",
            "vllm.model_executor.layers.layernorm",
        ],
    }


def write_text_model(folder: Path) -> Path:
    """The configuration and the tokenizer of a small Qwen2."""
    folder.mkdir()
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 4096,
        "torch_dtype": "float32",
        "vocab_size": VOCABULARY_SIZE,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_tokenizer(folder, "", 4096)
    return folder


def test_loading_the_plugin_changes_nothing_and_imports_nothing_of_ours() -> None:
    script = (
        "import sys, json\n"
        "import vllm.model_executor.models\n"
        "before = set(sys.modules)\n"
        "from saccade.model import register\n"
        "register(); register()\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))\n"
        "from vllm.distributed.device_communicators.shm_broadcast import SpinCondition\n"
        "from vllm.model_executor.custom_op import op_registry_oot\n"
        "assert SpinCondition.wait.__module__ == SpinCondition.__module__\n"
        "assert not op_registry_oot\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    imported = json.loads(done.stdout.splitlines()[-1])
    assert {name for name in imported if name.startswith("saccade")} <= {
        "saccade",
        "saccade.model",
        "saccade.model.vllm_versions",
    }
    assert not {"torchvision", "triton", "vllm.platforms.cpu"} & set(imported)


def test_switched_off_vllm_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen() -> tuple[str | None, str, str, list[str]]:
        parser = flags.make_parser()
        flags.add_engine_arguments(parser)
        arguments = parser.parse_args([])
        with patch.dict(os.environ):
            flags.prepare_arguments(arguments)
        block_instead_of_spin()
        wait = parts_of_process()["wait"]
        spin_again()
        with replaced_layers():
            layers = sorted(op_registry_oot)
        assert not op_registry_oot
        return arguments.scheduler_cls, arguments.worker_cls, wait, layers

    assert chosen() == (
        "saccade.model.cpu.scheduling.TextFirstScheduler",
        "saccade.model.cpu.worker.SampleInStepCPUWorker",
        BLOCKS,
        ["MRotaryEmbedding", "RMSNorm", "SiluAndMul"],
    )
    monkeypatch.setenv(CPU_TUNING_ENV, "0")
    assert chosen() == (None, "auto", SPINS, [])
    monkeypatch.setenv(CPU_TUNING_ENV, "off")
    with pytest.raises(ValueError, match="SACCADE_CPU_TUNING must be 0 or 1, not 'off'"):
        chosen()
