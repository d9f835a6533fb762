"""`saccade doctor`, as a person runs it."""

import os
import re
import subprocess

import pytest
import torch
from published import published_checkpoint

from saccade.kernels.cpu import extension
from saccade.kernels.cpu.processor import processor
from saccade.kernels.dispatch import OPERATIONS, select_backend
from saccade.server.commands.child import saccade_command
from saccade.server.commands.doctor import Ailment, _chat_template


def doctor(*arguments: str, **environment: str) -> tuple[int, str]:
    ended = subprocess.run(
        [*saccade_command(), "doctor", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    return ended.returncode, ended.stdout


def backends(said: str) -> dict[str, tuple[str, str]]:
    """Operation to its backend and the reason."""
    rows = re.findall(r"^  (\w+) +(triton|cpu|reference) +(.+)$", said, re.MULTILINE)
    return {operation: (backend, why) for operation, backend, why in rows}


@pytest.mark.parametrize("asked", ["auto", "reference"])
def test_the_form_of_each_operation_and_why(asked, monkeypatch):
    monkeypatch.setenv("SACCADE_KERNELS", asked)
    code, said = doctor()
    assert code == 0, said
    assert said.splitlines()[-1] == "all is well"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    expected = {operation: select_backend(operation, device) for operation in OPERATIONS}
    assert backends(said) == {name: (one.backend, one.reason) for name, one in expected.items()}
    assert f"\n  on the CPU        {extension.load().reason}\n" in said
    if asked == "reference":
        assert {one.backend for one in expected.values()} == {"reference"}


def test_a_form_that_does_not_exist():
    code, said = doctor(SACCADE_KERNELS="cuda")
    assert code == 1
    assert re.search(r"^  WRONG: .*SACCADE_KERNELS.*cuda", said, re.MULTILINE), said
    assert said.splitlines()[-1] == "1 to mend"


def test_a_setting_that_cannot_be():
    code, said = doctor(SACCADE_MAX_N="none")
    assert code == 1
    assert re.search(r"^  WRONG: .*SACCADE_MAX_N", said, re.MULTILINE), said


def test_the_chat_template_of_a_model(tmp_path):
    code, said = doctor("--model", str(published_checkpoint(tmp_path / "published")))
    assert code == 0
    assert (
        "\nchat template\n  chat_template.json and tokenizer_config.json, and Saccade's for tools"
        in said
    )
    with pytest.raises(Ailment, match=r"cannot read the model '.*none'"):
        list(_chat_template(str(tmp_path / "none")))


def test_operations_that_fail_are_named():
    code, said = doctor(SACCADE_TEST_FAULT="silu_and_mul:raise,resize:wrong")
    assert code == 1
    raised = "raised Fault: asked for by SACCADE_TEST_FAULT"
    dtypes = "float32, bfloat16, float16"
    assert f"\n  silu_and_mul        OUT OF USE in {dtypes}: {raised}\n" in said
    assert re.search(r"^  resize +OUT OF USE in uint8: .* off by \d+$", said, re.MULTILINE), said
    assert re.search(r"^  mrope +right in float32, bfloat16, float16$", said, re.MULTILINE), said
    assert "\n  WRONG: out of use: resize, silu_and_mul; " in said
    assert said.splitlines()[-1] == "1 to mend"


def test_limits_of_the_processor_are_named():
    code, said = doctor(ONEDNN_MAX_CPU_ISA="AVX2", ATEN_CPU_CAPABILITY="default")
    assert code == 0, said
    (line,) = re.findall(r"^  cpu .*$", said, re.MULTILINE)
    if processor().machine == "x86_64":
        assert "bfloat16 products in software, slowly; float16 products in software" in line
        assert "ATen uses DEFAULT" in line
        assert "ATEN_CPU_CAPABILITY=default" in line
        assert ("ONEDNN_MAX_CPU_ISA=AVX2" in line) == ("AVX512" in processor().features)
        assert re.search(r"^  attention_bfloat16 +not on this processor$", said, re.MULTILINE)
