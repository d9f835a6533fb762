"""Counts the functions that one chat request enters: a measure of how far its way winds.

    python tests/support/measures/request_entries.py            figures by process and folder
    python tests/support/measures/request_entries.py --list     and the way, in order

Starts ``saccade serve demo``, warms it up, and asks about one image and one video (data: URLs,
controls on both, streamed). Watched is the time from the first byte of the request until shortly
after the last byte of the answer, when the line is in the log. A second request also asks for all
that ``vision`` can give. Media and sizes differ from request to request, so that no cache shortens
the way.

An **entry** is a function of ours (``def``, in a ``saccade`` package, in any process) that begins
at least once. However often it begins, it counts once: what repeats by token, frame, layer or
medium does not lengthen the way. A coroutine or generator that goes on does not begin. Not counted
are properties, constructors and operators (double underscores but for `_ENTERED`), lambdas,
comprehensions, and what the processes do without a request. **Calls** are the entries told apart
by the line that calls them.

An entry is called **by name** where a line of ours that names it calls it, as a **callback** where
none does (it was handed over, or comes out of a table), and as a **hook** where others' code alone
calls it (ASGI, asyncio, vLLM, PyTorch; what runs in a task or a thread, or in a ``with``, too).
"""

import argparse
import ast
import base64
import contextlib
import functools
import http.client
import json
import linecache
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from entry_recorder import Call
from rooms import PACKAGES

ROOT = next(path for path in Path(__file__).parents if (path / "pyproject.toml").exists())
FLAGS = (
    "--enforce-eager",
    "--max-model-len=8192",
    "--max-num-seqs=16",
    "--kv-cache-memory-bytes=1G",
)
# Only bounds on a broken server.
_WAIT_SECONDS = 600
# For the line in the log, and what else is given back after the last byte.
_SETTLE_SECONDS = 1.0
_HOW = ("by name", "as callbacks", "as hooks")
_ENTERED = {"__call__", "__enter__", "__exit__", "__aenter__", "__aexit__"}


@dataclass(frozen=True)
class Way:
    """What one request entered."""

    entries: tuple[Call, ...]  # the first call of each, in order
    calls: int
    how: tuple[str, ...]  # of each entry: how it is called
    left_out: Counter[str]  # functions by kind

    @property
    def files(self) -> set[str]:
        return {call.file for call in self.entries}


class Server:
    """A server whose processes leave in a folder what they enter."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port

    def connect(self) -> contextlib.closing[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_WAIT_SECONDS)
        return contextlib.closing(connection)

    def record(self, body: dict[str, object] | None) -> list[Call]:
        """Calls of all processes for one request; for None, in as long a time without one."""
        processes = [path.stem for path in self._folder.glob("*.there") if _lives(path.stem)]
        for path in (*self._folder.glob("*.on"), *self._folder.glob("*.json")):
            path.unlink()
        with self.connect() as connection:
            connection.connect()
            time.sleep(_SETTLE_SECONDS)
            self._signal(processes, "on")
            if body is not None:
                ask(connection, body)
            time.sleep(_SETTLE_SECONDS)
            self._signal(processes, "json")
        records = [(self._folder / f"{pid}.json").read_text("utf-8") for pid in processes]
        return [Call(*call) for record in records for call in json.loads(record)]

    def _signal(self, processes: Sequence[str], state: str) -> None:
        for pid in processes:
            os.kill(int(pid), signal.SIGUSR2)
        wait_for(lambda: all((self._folder / f"{pid}.{state}").exists() for pid in processes))


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    """The demo, served by the installation of this Python."""
    with tempfile.TemporaryDirectory() as name:
        folder, log = Path(name), Path(name) / "log"
        shutil.copy(Path(__file__).with_name("entry_recorder.py"), folder / "sitecustomize.py")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = Server(folder, port)
        command = [str(Path(sys.executable).with_name("saccade")), "serve", "demo", *FLAGS]
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*command, "--host=127.0.0.1", f"--port={port}"],
                env=os.environ | {"PYTHONPATH": name},
                stdout=out,
                stderr=out,
                process_group=0,
            )
        try:
            wait_for(lambda: process.poll() is not None or _is_ready(server))
            if process.poll() is not None:
                raise SystemExit(f"the server ended:\n{log.read_text('utf-8')[-2000:]}")
            yield server
        finally:
            process.terminate()
            process.wait()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def wait_for(condition: Callable[[], bool]) -> None:
    """Returns as soon as the condition holds."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


def _is_ready(server: Server) -> bool:
    with contextlib.suppress(OSError), server.connect() as connection:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    return False


def _lives(pid: str) -> bool:
    return Path(f"/proc/{pid}").exists()


def ask(connection: http.client.HTTPConnection, body: dict[str, object]) -> None:
    """Sends one chat request and reads its answer to the end."""
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200 or not text.rstrip().endswith(b"data: [DONE]"):
        raise SystemExit(f"the request failed: {answer.status} {text[-500:]!r}")


def chat(image: str, video: str, width: int, **more: object) -> dict[str, object]:
    """A streamed request about an image and a video of the demo."""
    image_part = {"url": _url(image, "image/jpeg")}
    video_part = {"url": _url(video, "video/mp4")}
    size = {"resized_width": width, "resized_height": 112}
    parts = [
        {"type": "image_url", "image_url": image_part, **size},
        {"type": "video_url", "video_url": video_part, **size, "fps": 2.0},
        {"type": "text", "text": "Locate the yellow triangle."},
    ]
    return {
        "model": "demo",
        "messages": [{"role": "user", "content": parts}],
        "max_tokens": 32,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        **more,
    }


def _url(name: str, media_type: str) -> str:
    data = (ROOT / "demo" / "media" / name).read_bytes()
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def count(calls: Sequence[Call], idle: Sequence[Call]) -> Way:
    """What these calls enter, but for what is entered without a request."""
    without_request = {(call.process, call.file, call.line) for call in idle}
    entries: dict[tuple[str, int], Call] = {}
    left_out: dict[tuple[str, int, str], str] = {}
    lines = set()
    how: dict[tuple[str, int], str] = {}
    for call in sorted(calls, key=lambda call: call.began):
        if (call.process, call.file, call.line) in without_request:
            continue
        if kind := _kind_left_out(call):
            left_out[call.file, call.line, call.name] = kind
        else:
            entries.setdefault((call.file, call.line), call)
            lines.add((call.file, call.line, call.calling_file, call.calling_line))
            place = call.file, call.line
            how[place] = min(_how(call), how.get(place, _HOW[-1]), key=_HOW.index)
    ways = tuple(how[place] for place in entries)
    return Way(tuple(entries.values()), len(lines), ways, Counter(left_out.values()))


def _how(call: Call) -> str:
    folders = tuple(str(ROOT / package) + os.sep for package in PACKAGES)
    if not call.calling_file.startswith(folders):
        return "as hooks"
    name = call.name.rpartition(".")[2]
    line = linecache.getline(call.calling_file, call.calling_line)
    return "by name" if re.search(rf"\b{name}\b", line) else "as callbacks"


def _kind_left_out(call: Call) -> str | None:
    name = call.name.rpartition(".")[2]
    if name == "<lambda>":
        return "lambdas"
    if name.startswith("<"):
        return "comprehensions"
    if re.fullmatch(r"__\w+__", name) and name not in _ENTERED:
        return "constructors and operators"
    if call.line in _properties(call.file):
        return "properties"
    return None


@functools.cache
def _properties(file: str) -> set[int]:
    """First lines of a file's properties."""
    tree = ast.parse(Path(file).read_text("utf-8"))
    return {
        decorator.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
        if ast.unparse(decorator) in ("property", "cached_property", "functools.cached_property")
    }


def _path(call: Call) -> str:
    """A file by its place in the package, for instance ``server/app.py``."""
    parts = call.module.split(".")[1:]
    folder = parts if call.file.endswith("__init__.py") else parts[:-1]
    return "/".join([*folder, Path(call.file).name])


def _process(call: Call) -> str:
    return {"MainProcess": "API process"}.get(call.process, call.process)


def _thread(call: Call) -> str:
    return _process(call) + ("" if call.thread == "MainThread" else "'s other threads")


def _folder(call: Call) -> str:
    return str(Path(_path(call)).parent)


def show(told: str, way: Way, listed: bool) -> None:
    """Prints figures, and the way if it is asked for."""
    print(f"\n{told}: {len(way.entries)} entries in {len(way.files)} files; {way.calls} calls")
    left_out = ", ".join(f"{number} {kind}" for kind, number in sorted(way.left_out.items()))
    print("called " + ", ".join(f"{how}: {way.how.count(how)}" for how in _HOW))
    print(f"(not counted: {left_out})")
    for title, key in (("process", _process), ("thread", _thread), ("folder", _folder)):
        entries = Counter(map(key, way.entries))
        files = Counter(name for name, _ in {(key(call), call.file) for call in way.entries})
        print(f"  by {title}")
        for name, number in entries.most_common():
            print(f"    {number:>4} in {files[name]:>2}  {name}")
    if listed:
        print("  in order")
        for call, how in zip(way.entries, way.how, strict=True):
            print(f"    {_thread(call):<28} {how:<12} {_path(call)}:{call.line} {call.name}")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="print what is entered, in order")
    listed = parser.parse_args().list
    vision = {"vision": {"report": True, "coordinates": "source", "times": "source"}}
    with running_server() as server:
        for width in (84, 112):
            with server.connect() as connection:
                ask(connection, chat("temple.jpg", "bunny.mp4", width, **vision))
        idle = server.record(None)
        plain = server.record(chat("shapes.jpg", "events.mp4", 140))
        full = server.record(chat("shapes.jpg", "events.mp4", 168, **vision))
    show("plain request", count(plain, idle), listed)
    show("with vision's report, coordinates and times", count(full, idle), listed)


if __name__ == "__main__":
    main()
