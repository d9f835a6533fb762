"""Which versions of vLLM are named as unchecked, and how often."""

import json
import logging
import subprocess
import sys

import pytest
import vllm

from saccade.model import register, vllm_versions
from saccade.model.vllm_versions import CHECKED_VLLM, is_checked

# Runs a command with a vLLM that says it is of another version.
COMMAND = """
import sys
import vllm.version
vllm.version.__version__ = vllm.__version__ = "0.99.0"
from saccade.server.cli import main
sys.exit(main(sys.argv[1:]))
"""
# What the plugin does in a process of an engine.
STARTED = "from saccade.model.vllm_versions import warn_if_unchecked; warn_if_unchecked('0.99.0')"
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


class Recorder(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def test_the_plugin_names_an_unchecked_vllm_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACCADE_UNCHECKED_VLLM", "")
    recorder = Recorder()
    monkeypatch.setattr(logging.getLogger(vllm_versions.__name__), "handlers", [recorder])
    register()
    assert recorder.messages == []
    monkeypatch.setattr(vllm, "__version__", "0.99.0")
    register()
    register()
    assert recorder.messages == [vllm_versions.unchecked_warning("0.99.0")]
    # Processes that this one starts.
    assert run(STARTED) == (0, [])
    monkeypatch.delenv("SACCADE_UNCHECKED_VLLM")
    assert run(STARTED) == (0, recorder.messages)


def run(script: str, *arguments: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True
    )
    return done.returncode, (done.stdout + done.stderr).splitlines()


@pytest.mark.usefixtures("nothing_named")
def test_doctor_names_it_and_goes_on() -> None:
    code, lines = run(COMMAND, "doctor")
    assert code == 0, lines
    assert "all is well" in lines
    (line,) = [line for line in lines if NAMED in line]
    assert line.startswith("NOTE: versions: ")


@pytest.mark.usefixtures("nothing_named")
def test_serve_names_it_as_its_log_is_to_look_and_goes_on() -> None:
    code, lines = run(COMMAND, "serve", "./no-such-folder", "--log-format=json")
    assert (code, lines[-1][:21]) == (2, "saccade serve: error:"), lines
    assert "no-such-folder" in lines[-1]
    (line,) = [line for line in lines if NAMED in line]
    assert NAMED in json.loads(line)["message"]


@pytest.fixture
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands do not know what this process has named."""
    monkeypatch.delenv("SACCADE_UNCHECKED_VLLM", raising=False)
