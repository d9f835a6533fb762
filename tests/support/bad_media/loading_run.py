"""Loads bad media in a process of its own and tells what became of each."""

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from child_path import SUPPORT_PATH
from loading_child import LIMITS

CHILD = Path(__file__).with_name("loading_child.py")
# What the libraries load and keep on their first use.
SLACK = 8 * 2**20
# Bytes a pixel, of a frame and what its decoder keeps beside it (measured: 6, in MPEG-4).
PROBING = 8
# Nothing in a refusal may tell about the inside of the process.
LEAKS = ("0x", "<_io", "BytesIO", "object at", "Errno", "avcodec", "Traceback", "/tmp", "127.0.0")


@dataclass(frozen=True)
class Outcome:
    """What became of one case."""

    name: str
    size: int  # of the file, bytes
    outcome: str  # "served" or the error's class
    room: int  # that the loader reserved for decoding it, bytes
    grown: int  # peak memory over what was held before, bytes
    seconds: float
    message: str = ""
    status: int = 200
    param: str | None = "here"


def most_memory(case: Outcome) -> int:
    """Bytes that a case may take: its room, or before it has one the first frame, decoded to learn
    of its size; copies of its file; FFmpeg's index of the samples."""
    probing = PROBING * LIMITS.max_frame_pixels
    index = 2 * 70 * LIMITS.max_source_frames
    return max(case.room, probing) + 8 * case.size + index + SLACK


def run_files(cases: dict[str, bytes], folder: Path) -> dict[str, Outcome]:
    """Outcomes of files named NAME.image and NAME.video; what holds for every input is asserted.

    The child's malloc gives every large buffer pages of its own, which go when it is freed: what is
    measured is what a case holds, not what glibc had kept or could not use again.
    """
    for inner in ("cases", "temporary"):
        (folder / inner).mkdir()
    for name, data in cases.items():
        (folder / "cases" / name).write_bytes(data)
    environment = {
        **os.environ,
        "PYTHONPATH": SUPPORT_PATH,
        "TMPDIR": str(folder / "temporary"),
        "MALLOC_MMAP_THRESHOLD_": str(256 * 2**10),
    }
    with (folder / "log").open("wb") as log, (folder / "errors").open("wb") as errors:
        command = [sys.executable, "-X", "faulthandler", str(CHILD), str(folder / "cases")]
        status: object = "stuck"
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = subprocess.run(
                command, stdout=log, stderr=errors, env=environment, timeout=300
            ).returncode
    outcomes = _read(folder, status)
    assert outcomes.keys() == cases.keys()
    assert list((folder / "temporary").iterdir()) == []
    return outcomes


def _read(folder: Path, status: object) -> dict[str, Outcome]:
    records: list[dict[str, Any]] = [
        json.loads(line) for line in (folder / "log").read_text().splitlines()
    ]
    begun = [record["begin"] for record in records if "begin" in record]
    errors = (folder / "errors").read_text()
    assert status == 0, f"{status} in {begun[-1:]}: {errors[-3000:]}"
    outcomes = {r["name"]: Outcome(**r) for r in records if "name" in r}
    assert list(outcomes) == begun
    for case in outcomes.values():
        told = f"{case.name}: {case.message}"
        assert case.outcome != "crashed", told
        assert case.status in (200, 400, 413), told
        assert (case.param or "").startswith("here"), told
        assert not any(leak in case.message for leak in LEAKS), told
        assert "\n" not in case.message, told
        assert case.grown <= most_memory(case), f"{told} took {case.grown} bytes"
    last = records[-1]
    assert last["after"] == last["before"], f"{last} after {begun[-1:]}"
    return outcomes
