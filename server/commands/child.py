"""`saccade serve` as a child process: start it, wait until it is ready, stop it for sure."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import httpx

LIGHT_FLAGS = (
    "--enforce-eager",
    "--max-model-len=8192",
    "--max-num-seqs=16",
    "--kv-cache-memory-bytes=1G",
)
"""Engine flags with which a small model starts fast and takes little of a CPU's or GPU's memory."""

_POLL_SECONDS = 0.5
# Above the server's own drain timeout, after which it stops by itself.
_STOP_SECONDS = 60


class ServerError(Exception):
    """The server could not be started, or died. `log_tail` holds its last lines, if there are."""

    def __init__(self, message: str, log_tail: str = "") -> None:
        super().__init__(message)
        self.log_tail = log_tail
        if log_tail:
            self.add_note(f"its last lines:\n{log_tail}")  # a traceback shows it


def saccade_command() -> list[str]:
    """The `saccade` command of the running Python installation."""
    beside = Path(sys.executable).with_name("saccade")
    found = str(beside) if beside.exists() else shutil.which("saccade")
    if found is None:
        raise ServerError("the saccade command is not installed: pip install -e .")
    return [found]


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ServerProcess:
    """A server as a context: `with ServerProcess("demo") as server: server.wait_ready(300)`.

    The server gets a process group of its own. Leaving the context sends SIGTERM, waits, and kills
    whatever is left of the group. Inside the context SIGTERM to this process leaves it too.
    """

    ready_path = "/ready"

    def __init__(self, model: str, flags: Sequence[str] = LIGHT_FLAGS) -> None:
        self._port = free_port()
        self._command = [*self.command(model), "--host=127.0.0.1", f"--port={self._port}", *flags]
        self._process: subprocess.Popen[bytes] | None = None
        # Stays open as long as the server runs; closed on leaving.
        self._log = tempfile.NamedTemporaryFile(prefix="saccade-serve-", suffix=".log")  # noqa: SIM115
        self._previous_handler: Callable[[int, FrameType | None], object] | int | None = None

    @property
    def url(self) -> str:
        """The root of the server, without a path."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """Of the server's main process."""
        assert self._process is not None, "enter the context first"
        return self._process.pid

    def command(self, model: str) -> list[str]:
        """What starts the server, but for its address and the flags."""
        return [*saccade_command(), "serve", model]

    def environment(self) -> dict[str, str]:
        """The variables that it starts with."""
        return dict(os.environ)

    def __enter__(self) -> Self:
        environment = self.environment()
        # It listens on the loopback interface for one caller, who has no key.
        environment.pop("SACCADE_API_KEY", None)
        environment.pop("VLLM_API_KEY", None)
        if threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGTERM, _leave)
        # Our own command line, no shell.
        self._process = subprocess.Popen(  # noqa: S603
            self._command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            # No session: Linux shares the CPU out between sessions (sched_autogroup), and with
            # Linux 6.18 that kept the caller, ready to run, from any CPU for up to 15 s.
            process_group=0,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        finally:
            if self._previous_handler is not None:
                signal.signal(signal.SIGTERM, self._previous_handler)
            self._log.close()

    def wait_ready(self, timeout: float, waiting: Callable[[], None] = lambda: None) -> None:
        """Return when `ready_path` answers 200; calls `waiting` about twice a second until then.

        Raises:
            ServerError: the server ended, or was not ready within `timeout` seconds.
        """
        assert self._process is not None, "enter the context first"
        end = time.monotonic() + timeout
        with httpx.Client(base_url=self.url, timeout=5) as client:
            while time.monotonic() < end:
                if self._process.poll() is not None:
                    raise ServerError(
                        f"the server ended with exit code {self._process.returncode} "
                        "before it was ready",
                        self.log_tail(),
                    )
                try:
                    if client.get(self.ready_path).status_code == 200:
                        return
                except httpx.TransportError:
                    pass  # it does not listen yet
                waiting()
                time.sleep(_POLL_SECONDS)
        raise ServerError(f"the server was not ready within {timeout:.0f} seconds", self.log_tail())

    def log_tail(self, lines: int = 80) -> str:
        """The last lines that the server wrote."""
        text = Path(self._log.name).read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def alive(self) -> bool:
        """Whether the server's main process runs."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> int | None:
        """Stop the server; returns its exit code, or None if it never ran."""
        process = self._process
        if process is None:
            return None
        try:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        finally:
            # The group outlives its leader: engine processes it left behind end here.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return process.returncode


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
