"""`deploy/first_minutes.py` with the environment that runs the tests."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "first_minutes.py"
STEPS = ["clone", "make demo", "make serve", "playground|page", "curl", "Python", "chat", "plan"]
STEPS += ["batch", "bench", "all of it"]


def walked(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--environment", sys.prefix, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_every_way_to_ask_answers_and_tells_its_time(starts_engine: None) -> None:
    done = walked()
    assert done.returncode == 0, done.stdout + done.stderr
    for line, step in zip(done.stdout.splitlines(), STEPS, strict=True):
        assert re.fullmatch(rf"({step}) +\d+\.\d s", line)


def test_what_goes_wrong_is_named_and_ends_it(tmp_path: Path) -> None:
    done = walked("--source", str(tmp_path / "none"))
    assert done.returncode == 1
    assert done.stdout.startswith("clone: exit code 128:\n")
