"""One real server for all of tests/server, and what talks to it."""

import base64
import io
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from PIL import Image

from saccade.demo.checkpoints.checkpoint import random_checkpoint
from saccade.server.commands.child import free_port, saccade_command

KEY = "test-key-1"
OTHER_KEY = "test-key-2"
MODEL = "demo"
CONTEXT = 4096
# Only bounds on a broken server; nothing passes or fails by how long it takes.
START_SECONDS = 300
WAIT_SECONDS = 120


@dataclass
class RunningServer:
    """A `saccade serve` process that answers."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {KEY}"}

    def post(self, body: object, path: str = "/v1/chat/completions") -> httpx.Response:
        return httpx.post(self.url + path, json=body, headers=self.headers, timeout=WAIT_SECONDS)

    def stream(self, body: object, path: str = "/v1/chat/completions"):
        return httpx.stream(
            "POST",
            self.url + path,
            json=body,
            headers=self.headers,
            timeout=WAIT_SECONDS,
        )

    def metrics(self) -> dict[str, float]:
        """Sums over the labels of every metric's samples."""
        sums: dict[str, float] = {}
        for line in httpx.get(self.url + "/metrics").text.splitlines():
            if match := re.fullmatch(r"([\w:]+)(?:\{.*\})? (\S+)", line):
                sums[match[1]] = sums.get(match[1], 0.0) + float(match[2])
        return sums

    def generated(self) -> float:
        """Tokens that the engine has generated since its start."""
        return self.metrics()["vllm:generation_tokens_total"]

    def wait_until_idle(self) -> None:
        """Until nothing is left of any request, in the front end and in the engine."""
        gauges = (
            "vllm:num_requests_running",
            "vllm:num_requests_waiting",
            "saccade_requests_in_flight",
            "saccade_media_loading",
            "saccade_media_handles",
            "saccade_in_flight_tokens",
            "saccade_queued_requests",
        )

        def idle() -> bool:
            metrics = self.metrics()
            return all(metrics[name] == 0 for name in gauges)

        wait_for(idle, f"one of {gauges} stays above 0")

    def group_processes(self) -> list[psutil.Process]:
        """Living processes of the server's group, itself and orphans included."""
        found = []
        for process in psutil.process_iter():
            try:
                if (
                    os.getpgid(process.pid) == self.process.pid
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found

    def kill(self) -> None:
        """Ends whatever is left."""
        for process in self.group_processes():
            process.send_signal(signal.SIGKILL)
        self.process.wait()


def wait_for(condition: Callable[[], bool], told: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, told
        time.sleep(0.05)


def launch(
    log: Path, *flags: str, model: Path | None = None, variables: Mapping[str, str] | None = None
) -> RunningServer:
    """A server that has only begun to start."""
    port = free_port()
    # Random weights: the trained model ends its answers before a test can interrupt them.
    model = model or random_checkpoint()
    command = [*saccade_command(), "serve", str(model), "--served-model-name", MODEL]
    command += ["--host", "127.0.0.1", "--port", str(port), "--enforce-eager"]
    command += ["--max-model-len", str(CONTEXT), "--api-key", KEY, OTHER_KEY, *flags]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SACCADE_")}
    environment["VLLM_CPU_KVCACHE_SPACE"] = "1"
    environment.update(variables or {})
    with log.open("wb") as output:
        # A process group of its own, so that what it leaves behind can be found; see demo's server
        # for why it is no session.
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=environment, process_group=0
        )
    return RunningServer(process, f"http://127.0.0.1:{port}", log)


def start(log: Path, *flags: str, **options: Any) -> RunningServer:
    server = launch(log, *flags, **options)
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if httpx.get(server.url + "/ready").status_code == 200:
                return server
        except httpx.TransportError:
            pass
        if server.process.poll() is not None or time.monotonic() > deadline:
            server.kill()
            pytest.fail("the server did not start:\n" + log.read_text(errors="replace")[-6000:])
        time.sleep(0.5)


@pytest.fixture(scope="session")
def media_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media-root")


@pytest.fixture(scope="session")
def server(
    starts_engine: None, tmp_path_factory: pytest.TempPathFactory, media_root: Path
) -> Iterator[RunningServer]:
    running = start(
        tmp_path_factory.mktemp("server") / "log",
        "--allow-private-media",  # the tests' own media servers are on this machine
        f"--media-root={media_root}",
        # As the reference that answers are held against.
        "--dtype=float32",
        # A fetch that nobody answers must not end by itself while a test watches it.
        "--media-read-timeout=900",
        "--media-total-timeout=900",
        # What ordinary media exceed; no other test comes near.
        "--max-image-pixels=8000000",
        "--max-video-seconds=60",
        "--h11-max-incomplete-event-size=65536",
        # Few enough that a test fills them; no other test comes near.
        "--max-inflight-tokens=40000",
        "--max-queued-requests=64",
        "--queue-timeout=120",
    )
    yield running
    running.kill()


@pytest.fixture
def start_server(starts_engine: None, tmp_path: Path) -> Iterator[Callable[..., RunningServer]]:
    """Starts servers that end with the test."""
    yield from starting(tmp_path / "log")


@pytest.fixture
def launch_server(starts_engine: None, tmp_path: Path) -> Iterator[Callable[..., RunningServer]]:
    """Launches servers, which nobody waits for, that end with the test."""
    yield from starting(tmp_path / "log", launch)


@pytest.fixture(scope="module")
def start_shared_server(
    starts_engine: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., RunningServer]]:
    """Starts servers that end with the test's module."""
    yield from starting(tmp_path_factory.mktemp("shared") / "log")


def starting(
    log: Path, make: Callable[..., RunningServer] = start
) -> Iterator[Callable[..., RunningServer]]:
    started: list[RunningServer] = []

    def begin(*flags: str, **options: Any) -> RunningServer:
        started.append(make(log, *flags, **options))
        return started[-1]

    yield begin
    for running in started:
        running.kill()


@pytest.fixture(scope="session")
def client(server: RunningServer) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=server.url + "/v1", api_key=KEY, max_retries=0, timeout=WAIT_SECONDS
    )


@pytest.fixture(scope="session")
def image_url() -> Callable[..., str]:
    """Makes data: URLs of one-coloured images."""

    def make(width: int, height: int, colour: str = "red", kind: str = "PNG") -> str:
        return data_url(encoded_image(width, height, colour, kind), f"image/{kind.lower()}")

    return make


@pytest.fixture(scope="session")
def clip() -> bytes:
    """A real clip."""
    return (Path(__file__).parents[2] / "demo" / "media" / "bunny.mp4").read_bytes()


@pytest.fixture(scope="session")
def clip_url(clip: bytes) -> str:
    return data_url(clip, "video/mp4")


@pytest.fixture
def silent_host() -> Iterator[socket.socket]:
    """A listening socket whose owner never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT_SECONDS)
        yield listener


def encoded_image(width: int, height: int, colour: str = "red", kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, kind)
    return buffer.getvalue()


def data_url(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@pytest.fixture(name="data_url", scope="session")
def data_url_fixture() -> Callable[[bytes, str], str]:
    """Makes a data: URL of bytes and their media type."""
    return data_url


@pytest.fixture(name="wait_for", scope="session")
def wait_for_fixture() -> Callable[[Callable[[], bool], str], None]:
    """Waits for a condition, told what it means when it never comes."""
    return wait_for
