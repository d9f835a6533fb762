"""`saccade doctor`, as a person runs it."""

import os
import re
import shutil
import subprocess
import time

import pytest
import torch
from published import published_checkpoint

from saccade.kernels.cpu import build, extension
from saccade.kernels.cpu.processor import processor
from saccade.kernels.dispatch import OPERATIONS, select_backend
from saccade.server.commands.child import saccade_command
from saccade.server.commands.doctor.checks import chat_template
from saccade.server.commands.doctor.problem import Problem


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
    code, said = doctor("--verbose")
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
    wrong, mend, *_, last = said.splitlines()
    assert wrong.startswith("WRONG: kernels: SACCADE_KERNELS is 'cuda'; it must be auto, ")
    assert mend == "  mend: unset SACCADE_KERNELS"
    assert last == "1 to mend"


def test_what_is_wrong_comes_first_and_what_is_fine_takes_one_line():
    code, said = doctor(SACCADE_MAX_N="none", SACCADE_PLUGIN="0")
    assert code == 1
    lines = said.splitlines()
    assert lines[0].startswith("WRONG: limits: SACCADE_MAX_N: none: ")
    assert lines[1].startswith("  mend: set SACCADE_MAX_N to ")
    assert lines[2].startswith("SLOW: plugin: SACCADE_PLUGIN=0 ")
    assert lines[3] == "  mend: unset SACCADE_PLUGIN"
    (fine,) = [line for line in lines if line.startswith("fine: ")]
    assert "versions, devices" in fine
    assert "limits" not in fine
    assert "plugin" not in fine
    assert lines[-1] == "1 to mend"


def test_the_chat_template_of_a_model(tmp_path):
    model = str(published_checkpoint(tmp_path / "published"))
    code, said = doctor("--verbose", "--model", model)
    assert code == 0
    assert (
        "\nchat template\n  chat_template.json and tokenizer_config.json, and Saccade's for tools"
        in said
    )
    (problem,) = chat_template(str(tmp_path / "none"))
    assert isinstance(problem, Problem)
    assert re.match(r"cannot read the model '.*none'", problem.what)


def test_operations_that_fail_are_named():
    code, said = doctor("--verbose", SACCADE_TEST_FAULT="silu_and_mul:raise,resize:wrong")
    assert code == 1
    raised = "raised Fault: asked for by SACCADE_TEST_FAULT"
    dtypes = "float32, bfloat16, float16"
    assert f"\n  silu_and_mul        OUT OF USE in {dtypes}: {raised}\n" in said
    assert re.search(r"^  resize +OUT OF USE in uint8: .* off by \d+$", said, re.MULTILINE), said
    assert re.search(r"^  mrope +right in float32, bfloat16, float16$", said, re.MULTILINE), said
    assert said.startswith("WRONG: kernels: out of use: resize, silu_and_mul; ")
    assert said.splitlines()[-1] == "1 to mend"


def test_limits_of_the_processor_are_named():
    code, said = doctor("--verbose", ONEDNN_MAX_CPU_ISA="AVX2", ATEN_CPU_CAPABILITY="default")
    assert code == 0, said
    (line,) = re.findall(r"^  cpu .*$", said, re.MULTILINE)
    if processor().machine == "x86_64":
        assert "bfloat16 products in software, slowly; float16 products in software" in line
        assert "ATen uses DEFAULT" in line
        assert "ATEN_CPU_CAPABILITY=default" in line
        assert ("ONEDNN_MAX_CPU_ISA=AVX2" in line) == ("AVX512" in processor().features)
        assert re.search(r"^  attention_bfloat16 +not on this processor$", said, re.MULTILINE)


def test_fix_mends_the_cache_and_shows_it_before_and_after(tmp_path):
    folder = tmp_path / "saccade"
    folder.mkdir()
    folder.chmod(0o777)
    left, fresh = folder / "compiled-0.123", folder / "compiled-0.124"
    for file in (left, fresh):
        file.touch()
    long_ago = time.time() - 86400
    os.utime(left, (long_ago, long_ago))
    code, said = doctor("--fix", XDG_CACHE_HOME=str(tmp_path))
    assert code == 0, said
    before, _, after = said.partition("after that:\n")
    assert f"others may write {folder}" in before
    assert f"\n  removed: {left}\n" in before
    assert "mend:" in before
    assert str(folder) not in after
    assert "cache" in after
    assert after.endswith("all is well\n")
    assert not left.exists()
    assert fresh.exists()  # a compiler may be at it
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_mend_that_fails_leaves_what_is_there(tmp_path):
    built = build.library()
    assert built.exists(), "nothing is compiled here: run make setup with a C++ compiler"
    before = built.read_bytes()
    # Wherever it is found, beside its sources or in this user's cache.
    (tmp_path / "saccade").mkdir(mode=0o700)
    shutil.copy(built, tmp_path / "saccade")
    code, said = doctor(
        "--fix", CXX="false", SACCADE_TEST_FAULT="resize:wrong", XDG_CACHE_HOME=str(tmp_path)
    )
    assert code == 1, said
    assert "\n  failed: false failed:" in said
    assert said.splitlines()[-1] == "1 to mend"
    assert "after that:" not in said
    assert built.read_bytes() == before
