"""`saccade demo` as a user runs it, and what it says when it cannot run."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from saccade.demo.questions import QUESTIONS, SHAPES
from saccade.demo.run import DemoError, draw_boxes, printable
from saccade.demo.world.answers import boxes_of
from saccade.server.commands.child import ServerError, ServerProcess, free_port, saccade_command


def demo(*arguments: str, timeout: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*saccade_command(), "demo", *arguments], capture_output=True, text=True, timeout=timeout
    )


@pytest.mark.usefixtures("starts_engine")
def test_the_demo_gives_the_right_answers(tmp_path: Path):
    drawing = tmp_path / "boxes.png"
    result = demo("--boxes", str(drawing), timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr
    said = result.stdout
    assert "ready at http://127.0.0.1:" in said
    for question in QUESTIONS:
        told = "\n".join(question.told())
        (answer,) = re.findall(
            rf"\n{re.escape(told)}\n(.+)\n\[right: {re.escape(question.answer)}\]", said
        )
        assert question.is_right(answer), (told, answer)
    # 224 x 168 is 8 x 6 tokens; 16 frames of 140 x 112 are 8 steps of 5 x 4 tokens.
    assert re.search(r"\[\d+ prompt tokens \(48 image, \d+ text\), \d+ answer tokens\]", said)
    assert re.search(r"\[\d+ prompt tokens \(160 video, \d+ text\), \d+ answer tokens\]", said)
    (box,) = boxes_of(re.search(r"^\[\{.*bbox_2d.*\]$", said, re.MULTILINE)[0])
    with Image.open(drawing) as drawn:
        assert drawn.size == (224, 168)
        assert drawn.getpixel((box[0], box[1])) == (255, 0, 0)
    port = re.search(r"ready at http://127\.0\.0\.1:(\d+)", said)
    assert port
    result = demo("--url", f"http://127.0.0.1:{port[1]}", timeout=120)
    assert result.returncode == 1, "the server outlived the demo"


def test_nobody_at_the_url_is_one_line():
    result = demo("--url", f"http://127.0.0.1:{free_port()}", timeout=120)
    assert result.returncode == 1
    assert re.fullmatch(r"saccade demo: error: .*http://127\.0\.0\.1:\d+.*\n", result.stderr)
    assert result.stdout == ""


def test_a_server_that_cannot_start_shows_its_last_lines(tmp_path: Path):
    result = demo("--model", str(tmp_path / "no-such-model"), timeout=300)
    assert result.returncode == 1
    assert "no-such-model" in result.stderr
    assert "the server's last lines:" in result.stderr
    assert "saccade demo: error: the server ended with exit code" in result.stderr.splitlines()[-1]


def test_a_drawing_that_cannot_be_written_is_told(tmp_path: Path):
    with pytest.raises(DemoError, match=r"--boxes .*no-such-folder.*No such file"):
        draw_boxes(SHAPES.file, [(1, 2, 30, 40)], tmp_path / "no-such-folder" / "x.png")


def test_help_has_examples():
    result = demo("--help", timeout=120)
    assert result.returncode == 0
    assert "examples:" in result.stdout
    assert "saccade demo --url" in result.stdout


# A stand-in for the command: starts a child that ignores signals, like an engine that got stuck.
STUCK = """
import os, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"])
print("child", child.pid, flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
time.sleep(600)
"""


@pytest.fixture
def stuck_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "stuck.py"
    script.write_text(STUCK)
    monkeypatch.setattr(
        "saccade.server.commands.child.saccade_command", lambda: [sys.executable, str(script)]
    )
    return script


def child_of(server: ServerProcess) -> int:
    with pytest.raises(ServerError, match="not ready within 2 seconds") as error:
        server.wait_ready(2)
    found = re.search(r"child (\d+)", error.value.log_tail)
    assert found
    return int(found[1])


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ends(pid: int) -> bool:
    """Whether it ends by itself within a minute: SIGKILL takes a moment to take effect."""
    for _ in range(600):
        if not running(pid):
            return True
        time.sleep(0.1)
    return False


def test_what_the_server_leaves_behind_is_killed(stuck_command):
    with ServerProcess("demo") as server:
        child = child_of(server)
        assert server.alive()
        assert running(child)
    assert not server.alive()
    assert ends(child)


def test_sigterm_to_the_caller_stops_the_server_too(stuck_command):
    before = signal.getsignal(signal.SIGTERM)
    children = []

    def interrupted_work() -> None:
        with ServerProcess("demo") as server:
            children.append(child_of(server))
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)  # the handler runs before this returns

    with pytest.raises(SystemExit) as stopped:
        interrupted_work()
    (child,) = children
    assert stopped.value.code == 128 + signal.SIGTERM
    assert ends(child)
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_a_terminal_could_misread_is_shown_as_a_dot():
    assert printable("a\x1b[31mb\nc\r\u200bé東") == "a·[31mb\nc··é東"
