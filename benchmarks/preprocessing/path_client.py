"""The processes of `saccade bench host-path` and `clip-path`: started, asked, ended."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

from saccade.benchmarks.common.stock import stock_environment
from saccade.server.checkpoint.bundled import bundled_checkpoint

Way = Literal["ours", "stock"]
WAYS: tuple[Way, ...] = ("ours", "stock")
# A video of many frames takes more positions than the model was trained on. No token is computed.
_ROOM = ("--max-model-len=200000", "--max-num-batched-tokens=200000")


class PathError(Exception):
    """A process failed or gave no answer."""


class PathProcess:
    """One media path in a process of its own.

    Args:
        way: Saccade's or stock vLLM's.
        cores: how many the process may run on; None for all.
        options: of ``vllm serve``, beside the model.
        media_root: where Saccade may read files.

    Raises:
        NoStock: stock vLLM cannot run here.
    """

    def __init__(
        self,
        way: Way,
        cores: int | None = None,
        options: tuple[str, ...] = (),
        media_root: Path | None = None,
    ) -> None:
        environment = stock_environment() if way == "stock" else dict(os.environ)
        environment |= {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}
        vllm = [str(bundled_checkpoint()), *_ROOM, *options]
        reader, writer = os.pipe()
        command = [sys.executable, "-m", "saccade.benchmarks.preprocessing.path_process", way]
        command += ["--out", str(writer), "--options", json.dumps(vllm)]
        command += ["--media-root", str(media_root)] if media_root else []
        with _affinity(cores):
            # Our own command line, no shell.
            self._process = subprocess.Popen(  # noqa: S603
                command, env=environment, stdin=subprocess.PIPE, pass_fds=(writer,), text=True
            )
        os.close(writer)
        self._answers = os.fdopen(reader, encoding="utf-8")
        self._way = way

    def __enter__(self) -> Self:
        self._receive()  # it is ready
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()

    def ask(self, job: str, files: list[str], **more: object) -> Any:
        """The answer to one job of `path_process`.

        Raises:
            PathError: the job failed.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"job": job, "files": files, **more}) + "\n")
        self._process.stdin.flush()
        return self._receive()

    def _receive(self) -> Any:
        line = self._answers.readline()
        if not line:
            raise PathError(f"the process of {self._way} ended with {self._process.wait()}")
        answer = json.loads(line)
        if isinstance(answer, Mapping) and "error" in answer:
            raise PathError(f"{self._way}: {answer['error']}")
        return answer


@contextmanager
def _affinity(cores: int | None) -> Iterator[None]:
    """What is started inside may run on so many cores only."""
    before = os.sched_getaffinity(0)
    if cores is not None:
        os.sched_setaffinity(0, sorted(before)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
