"""Records which of our functions a process begins, between two signals.

`request_entries` lays a copy of this file as ``sitecustomize.py`` into a folder that every Python
process of a server has on its path. Each leaves there ``PID.there`` when it starts, ``PID.on`` when
a first SIGUSR2 has begun the recording, and ``PID.json``, a list of `Call`, when a second one has
ended it.

Threads have the profiler from their start, because Python 3.11 sets one only from within; while
nothing is recorded it returns at once. A process made by forking keeps it and the signal's handler.
"""

import json
import multiprocessing
import opcode
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

_RESUME = opcode.opmap["RESUME"]
# RESUME's argument says after what: 0 at a function's start, other numbers after yield and await.
_AFTER_WHAT = 3


class Call(NamedTuple):
    """The first call of a function from a line."""

    process: str
    thread: str
    began: int  # nanoseconds of a clock that all processes share
    module: str
    file: str
    line: int  # where the function begins, its decorators included
    name: str
    calling_file: str
    calling_line: int


class Recorder:
    """Keeps what this process calls while it is on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._on = False
        self._calls: dict[tuple[CodeType, str, int], Call] = {}
        # Instructions of functions of ours; None for everybody else's.
        self._ours: dict[CodeType, bytes | None] = {}

    def install(self) -> None:
        """Makes this process and those that it forks wait for the signal."""
        signal.signal(signal.SIGUSR2, self._toggle)
        threading.setprofile(self._profile)
        os.register_at_fork(after_in_child=self._register)
        self._register()

    def _register(self) -> None:
        self._on = False
        self._path("there").touch()

    def _path(self, state: str) -> Path:
        return self._folder / f"{os.getpid()}.{state}"

    def _toggle(self, *_: object) -> None:
        self._on = not self._on
        if self._on:
            self._calls.clear()
            sys.setprofile(self._profile)
            self._path("on").touch()
        else:
            sys.setprofile(None)
            self._path("part").write_text(json.dumps(list(self._calls.values())), encoding="utf-8")
            self._path("part").rename(self._path("json"))

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        if not self._on or event != "call":
            return
        code, caller = frame.f_code, frame.f_back
        if code not in self._ours:
            # What dataclasses and their like write has no file.
            is_ours = _module(frame).startswith("saccade.") and code.co_filename[0] != "<"
            self._ours[code] = code.co_code if is_ours else None
        instructions = self._ours[code]
        if instructions is None or not _begins(instructions, frame.f_lasti):
            return
        calling_file = caller.f_code.co_filename if caller else ""
        calling_line = (caller.f_lineno or 0) if caller else 0
        if (code, calling_file, calling_line) not in self._calls:
            self._calls[code, calling_file, calling_line] = Call(
                multiprocessing.current_process().name,
                threading.current_thread().name,
                time.monotonic_ns(),
                _module(frame),
                code.co_filename,
                code.co_firstlineno,
                code.co_qualname,
                calling_file,
                calling_line,
            )


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _begins(instructions: bytes, at: int) -> bool:
    """Whether a function starts here: a coroutine or generator that goes on is called, too."""
    return instructions[at] == _RESUME and not instructions[at + 1] & _AFTER_WHAT


if __name__ == "sitecustomize":
    Recorder(Path(__file__).parent).install()
