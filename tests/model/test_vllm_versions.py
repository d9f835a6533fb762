"""Which versions of vLLM are named as unchecked, and how often."""

import json
import logging
import os
import subprocess
import sys

import pytest
import vllm

from saccade.model import register, vllm_versions
from saccade.model.vllm_versions import CHECKED_VLLM, is_checked

PRELUDE = """
import os, subprocess, sys
import vllm.version
vllm.version.__version__ = vllm.__version__ = "0.99.0"
"""
COMMAND = (
    PRELUDE
    + """
from saccade.server.cli import main
sys.exit(main(sys.argv[1:]))
"""
)
# The plugin in a process and in one that it starts, as vLLM has them.
PLUGIN = (
    PRELUDE
    + """
from saccade.model import register
register()
if sys.argv[1:] == ["parent"]:
    subprocess.run([sys.executable, "-c", os.environ["PLUGIN"]], check=True)
    print("both")
"""
)
NAMED = "vLLM 0.99.0 is not a version that Saccade was checked on (0.32.x, 0.33.x)"


@pytest.mark.parametrize(
    ("version", "checked"),
    [
        ("0.32.0", True),
        ("0.33.0", True),
        ("0.33.0+cpu", True),
        ("0.33.2", True),
        ("0.33.0rc2", True),
        ("0.32.0.post1", True),
        ("0.33.1.dev12+g4ba787ec9", False),
        ("0.33.1rc1.dev7+gabc.d20261130", False),
        ("0.31.4", False),
        ("0.34.0", False),
        ("0.320.0", False),
        ("1.0.33", False),
        ("dev", False),
        ("", False),
    ],
)
def test_checked_versions(version: str, checked: bool) -> None:
    assert is_checked(version) is checked


def test_the_installed_one_is_checked() -> None:
    assert is_checked(vllm.__version__), f"not one of {CHECKED_VLLM}"


def test_the_plugin_names_an_unchecked_vllm_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SACCADE_UNCHECKED_VLLM", "")
    monkeypatch.setattr(logging.getLogger("saccade"), "propagate", True)
    register()
    assert not caplog.messages
    monkeypatch.setattr(vllm, "__version__", "0.99.0")
    register()
    register()
    (message,) = caplog.messages
    assert message == vllm_versions.unchecked_warning("0.99.0")


def run(script: str, *arguments: str) -> tuple[int, list[str]]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SACCADE_")}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        env={**environment, "PLUGIN": PLUGIN},
    )
    return done.returncode, (done.stderr + done.stdout).splitlines()


def test_processes_that_another_one_starts_do_not_name_it_again() -> None:
    code, lines = run(PLUGIN, "parent")
    assert (code, lines[-1]) == (0, "both"), lines
    assert len([line for line in lines if line.startswith(NAMED)]) == 1, lines


def test_doctor_names_it_and_goes_on() -> None:
    code, lines = run(COMMAND, "doctor")
    assert (code, lines[-1]) == (0, "all is well"), lines
    (line,) = [line for line in lines if NAMED in line]
    assert line.startswith("  NOTE: ")


def test_serve_names_it_as_its_log_is_to_look_and_goes_on() -> None:
    code, lines = run(COMMAND, "serve", "./no-such-folder", "--log-format=json")
    assert code == 2
    assert "no-such-folder" in lines[-1]
    (line,) = [line for line in lines if NAMED in line]
    assert NAMED in json.loads(line)["message"]
