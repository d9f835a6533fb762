"""What a server on this machine holds: memory, threads, descriptors, unfinished requests."""

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

_IDLE_GAUGES = (
    "saccade_in_flight_tokens",
    "saccade_queued_requests",
    "saccade_requests_in_flight",
    "saccade_media_loading",
    "saccade_media_handles",
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
)


_ENGINE = ("VLLM::Engine", "VLLM::Worker")  # names of its processes


@dataclass(frozen=True)
class Held:
    """Sums over the server's processes."""

    processes: int
    memory: int  # bytes, resident
    threads: int
    descriptors: int


def held(pid: int) -> Held:
    """What the process and its descendants hold now."""
    root = psutil.Process(pid)
    processes = [root, *root.children(recursive=True)]
    return Held(
        len(processes),
        sum(process.memory_info().rss for process in processes),
        sum(process.num_threads() for process in processes),
        sum(process.num_fds() for process in processes),
    )


def api_seconds(pid: int) -> float:
    """CPU seconds of a server's API processes so far: all but the engine's."""
    return sum(
        seconds for name, seconds in _seconds_by_process(pid) if not name.startswith(_ENGINE)
    )


def all_seconds(pid: int) -> float:
    """CPU seconds of all of a server's processes so far."""
    return sum(seconds for _, seconds in _seconds_by_process(pid))


def _seconds_by_process(pid: int) -> Iterator[tuple[str, float]]:
    root = psutil.Process(pid)
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            yield process.name(), _thread_seconds(process.pid)


def _thread_seconds(pid: int) -> float:
    """CPU seconds of the threads that a process has; a process's own are told in hundredths."""
    total = 0
    for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            total += int(file.read_text().split()[0])
    return total / 1e9


def listening_process(port: int) -> int | None:
    """The process of this machine that listens on a port, as far as we may know."""
    with suppress(psutil.AccessDenied):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                return connection.pid
    return None


def metrics(url: str) -> dict[str, float]:
    """Sums over the labels of every metric."""
    sums: dict[str, float] = {}
    for line in httpx.get(f"{url}/metrics", timeout=30).text.splitlines():
        if match := re.fullmatch(r"([\w:]+)(?:\{.*\})? (\S+)", line):
            sums[match[1]] = sums.get(match[1], 0.0) + float(match[2])
    return sums


def unfinished(url: str, seconds: float) -> dict[str, float]:
    """What is not back at zero after so many seconds of waiting."""
    deadline = time.monotonic() + seconds
    while True:
        values = metrics(url)
        left = {name: values[name] for name in _IDLE_GAUGES if values.get(name)}
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.2)
