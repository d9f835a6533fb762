"""`saccade completion`, in a real bash."""

import subprocess

import pytest

from saccade.server.commands.child import saccade_command

ASK = """
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
source "$SCRIPT"
"$(complete -p saccade | sed -E 's/.*-F ([^ ]+).*/\\1/')"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    file = tmp_path_factory.mktemp("completion") / "saccade"
    with file.open("wb") as out:
        subprocess.run([*saccade_command(), "completion", "bash"], stdout=out, check=True)
    return file


def complete(script, folder, *words):
    """What bash offers for the last of the words."""
    command = ["bash", "--norc", "-c", ASK, "bash", "saccade", *words]
    environment = {"SCRIPT": str(script), "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return ended.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["pl"], ["plan"]),
        (["serve", "--media-ro"], ["--media-root"]),
        (["serve", "--tensor-para"], ["--tensor-parallel-size"]),
        (["plan", "--sampling", ""], ["frames", "time"]),
        (["bench", "liv"], ["liveliness"]),
        (["completion", "z"], ["zsh"]),
        (["plan", "pho"], ["photo.jpg"]),
        (["batch", "--output", "pho"], ["photo.jpg"]),
        (["chat", "--image", "pho"], ["photo.jpg"]),
    ],
)
def test_bash_completes(script, tmp_path, words, offered):
    (tmp_path / "photo.jpg").touch()
    assert complete(script, tmp_path, *words) == offered


def test_a_shell_that_is_not_known():
    ended = subprocess.run(
        [*saccade_command(), "completion", "dos"], capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "bash" in ended.stderr
