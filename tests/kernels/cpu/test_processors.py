"""Operations and tower on every kind of processor that this one can imitate.

A lesser processor is imitated by limits of oneDNN and ATen and by compiling for it, in a process
of its own. Kinds that this processor cannot imitate are named among pytest's warnings.
"""

import json
import os
import re
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import processor_child
import pytest
from child_path import SUPPORT_PATH

from saccade.demo.checkpoints.checkpoint import (
    CheckpointSpec,
    LanguageSpec,
    TowerSpec,
    write_checkpoint,
)
from saccade.kernels.cpu import build, compiled
from saccade.kernels.cpu.processor import flags, named_features, processor
from saccade.kernels.self_test import faults

SUPPORT = Path(processor_child.__file__).parent
# A layer with windows and one with full attention; heads of 80, as published towers have.
TOWER = TowerSpec(depth=2, hidden=160, heads=2, intermediate=432, fullatt_block_indexes=(1,))


@dataclass(frozen=True)
class Kind:
    """A kind of processor.

    Attributes:
        needs: What the present processor must have to imitate it.
        onednn: oneDNN's limit, and ``isa`` what oneDNN then says that it uses.
        architecture: What the compiled backends are compiled for.
        capability: ATen's vectors, for ATen and for the compiled backends.
        bfloat16, float16: Whether it multiplies matrices of these in hardware.
    """

    needs: str
    onednn: str
    isa: str
    architecture: str = "native"
    capability: str = "AVX512"
    bfloat16: bool = True
    float16: bool = True


KINDS = {
    "AVX2 alone": Kind("AVX2", "AVX2", "Intel AVX2", "x86-64-v3", "AVX2", False, False),
    "AVX-512 without bfloat16": Kind(
        "AVX512",
        "AVX512_CORE",
        "Intel AVX-512 with AVX512BW, AVX512VL, and AVX512DQ extensions",
        "x86-64-v4",
        bfloat16=False,
        float16=False,
    ),
    "AVX-512 with bfloat16": Kind(
        "AVX512-BF16",
        "AVX512_CORE_BF16",
        "Intel AVX-512 with Intel DL Boost and bfloat16 support",
        float16=False,
    ),
    "AVX-512 with float16": Kind("AVX512-FP16", "AVX512_CORE_FP16", "Intel AVX 10.1"),
    "AMX with bfloat16": Kind(
        "AMX-BF16",
        "AVX512_CORE_AMX",
        "Intel AVX10.1 and Intel AMX with bfloat16 and 8-bit integer support",
    ),
    "AMX with float16": Kind(
        "AMX-FP16",
        "AVX512_CORE_AMX_FP16",
        "Intel AVX10.1 and Intel AMX with bfloat16, float16 and 8-bit integer support",
    ),
}
HERE = {name: kind for name, kind in KINDS.items() if kind.needs in processor().features}


def found(library: Path, checkpoint: Path, **environment: str) -> dict[str, Any]:
    """What the child says; `isa` as oneDNN does."""
    ended = subprocess.run(
        [sys.executable, processor_child.__file__, library, checkpoint],
        env={**os.environ, "PYTHONPATH": SUPPORT_PATH, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    (line,) = re.findall(r"^FOUND (.*)$", ended.stdout, re.MULTILINE)
    isa = re.findall(r"info,cpu,isa:(.*)$", ended.stdout, re.MULTILINE)
    return {**json.loads(line), "isa": isa[0] if isa else None, "log": ended.stderr}


def check_right(found: dict[str, Any]) -> None:
    assert set(found["kernels"].values()) == {"right"}, found["kernels"]
    errors = found["tower"]
    assert errors["auto float32"] <= 1e-5
    for dtype in ("bfloat16", "float16"):
        # PyTorch rounds more often than the compiled backends do.
        assert 0 < errors[f"auto {dtype}"] <= 1.25 * errors[f"reference {dtype}"], errors
    assert errors["reference bfloat16"] < 0.05
    assert errors["reference float16"] < 0.01


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(CheckpointSpec(TOWER, LanguageSpec(layers=1), dtype="float32"), folder)
    return folder


@pytest.mark.parametrize("name", HERE)
def test_a_kind_of_processor(name: str, checkpoint: Path, tmp_path: Path) -> None:
    kind = KINDS[name]
    folder = None if kind.architecture == "native" else tmp_path
    library = build.build(folder, kind.architecture, kind.capability)
    limits = {"ONEDNN_MAX_CPU_ISA": kind.onednn, "ATEN_CPU_CAPABILITY": kind.capability.lower()}
    said = found(library, checkpoint, **limits)

    assert said["isa"] == kind.isa  # the imitation is one
    assert said["processor"]["aten"] == kind.capability
    assert (said["bfloat16"], said["float16"]) == (kind.bfloat16, kind.float16)
    # What oneDNN does is what we said that it would.
    assert (said["native bfloat16"] == "runs") == kind.bfloat16, said["native bfloat16"]
    assert ("attention_bfloat16 torch.bfloat16" in said["used"]) == kind.bfloat16
    assert said["failures"] == []
    proved = {f"{name} {dtype}" for name, dtypes in compiled.OPERATIONS.items() for dtype in dtypes}
    if not kind.bfloat16:
        proved.remove("attention_bfloat16 torch.bfloat16")
    assert set(said["used"]) == proved
    check_right(said)


def test_kinds_that_cannot_be_imitated_are_named() -> None:
    missing = {name: kind.needs for name, kind in KINDS.items() if name not in HERE}
    for name, needs in missing.items():
        warnings.warn(f"not tested here: {name}; this processor has no {needs}", stacklevel=1)
    if processor().machine == "x86_64" and (has := flags().split()):
        # By what Linux says, where torch was asked.
        named = named_features("x86_64", dict.fromkeys(has, True), linux=True)
        amx = {"AMX-BF16", "AMX-FP16"}  # the system may keep it from a process
        assert named - amx == processor().features - amx
        assert ("AVX2 alone" in HERE) == ("avx2" in has)


def test_with_every_compiled_operation_at_fault(checkpoint: Path) -> None:
    """Raised or wrong, each gives way, in the layers of the model too."""
    asked = [
        f"{name}:{('raise', 'wrong')[number % 2]}"
        for number, name in enumerate(compiled.OPERATIONS)
    ]
    said = found(build.build(), checkpoint, **{faults.VARIABLE: ",".join(asked)})
    check_right(said)
    assert said["used"] == []
    native = {"attention_bfloat16"} if processor().bfloat16_matmul else set()
    named = {failure.partition(" ")[0] for failure in said["failures"]}
    assert named == compiled.OPERATIONS.keys() - {"attention_bfloat16"} | native
    for failure in said["failures"]:
        assert f"out of use, the next backend takes over: {failure}\n" in said["log"]
