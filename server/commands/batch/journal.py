"""The output while it is written: what was answered is never lost, and never asked again.

Lines as OpenAI's: https://platform.openai.com/docs/api-reference/batch/request-output
"""

import fcntl
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from saccade.server.commands.batch.errors import BatchStopped, BatchUsageError
from saccade.server.commands.batch.requests import BatchRequest

_ID = "batch_req_"
_BEGIN = f'{{"id": "{_ID}'.encode()  # every line's


def has_failed(record: dict[str, Any]) -> bool:
    """Whether a line says anything but a 2xx."""
    response = record["response"]
    return response is None or not 200 <= response["status_code"] < 300


class Journal:
    """Finished requests, one a line, appended by one write each.

    A line's id is made of the request's key: it tells whether the line belongs to the input.
    """

    def __init__(self, path: Path, known: set[int], *, retry_failed: bool = False) -> None:
        """Opens or begins the file, cuts off a last line that is not whole.

        Args:
            known: the keys of all requests of the input.
            retry_failed: take out the lines that failed.

        Raises:
            BatchUsageError: it belongs to another input, or cannot be opened.
        """
        self.path = path
        self.finished = set[int]()
        self.failed = 0
        self._dirty = False
        self._descriptor = -1
        try:
            self._open()
            os.ftruncate(self._descriptor, self._read(known))
            if retry_failed and self.failed:
                self._drop_failed()
        except OSError as error:
            self._close()
            raise BatchUsageError(f"--output: {path}: {error.strerror}") from None
        except BatchUsageError:
            self._close()
            raise

    def append(self, request: BatchRequest, response: dict[str, Any] | None, error: Any) -> bool:
        """Writes the line of a finished request; whether it failed."""
        record = {
            "id": f"{_ID}{request.key:016x}",
            "custom_id": request.custom_id,
            "response": response,
            "error": error,
        }
        line = json.dumps(record).encode() + b"\n"
        try:
            written = os.write(self._descriptor, line)
        except OSError as problem:
            raise BatchStopped(f"{self.path}: {problem.strerror}") from None
        if written < len(line):
            raise BatchStopped(f"{self.path}: the disk is full")
        self._dirty = True
        self.finished.add(request.key)
        failed = has_failed(record)
        self.failed += failed
        return failed

    def sync(self) -> None:
        """Brings what was appended to the disk itself, for when the machine dies."""
        if self._dirty:
            self._dirty = False
            try:
                os.fsync(self._descriptor)
            except OSError as error:
                raise BatchStopped(f"{self.path}: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.sync()
        finally:
            self._close()

    def records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Every line and the byte at which it begins."""
        with self.path.open("rb") as file:
            offset = 0
            for line in file:
                yield offset, json.loads(line)
                offset += len(line)

    def _open(self) -> None:
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            raise BatchUsageError(f"--output: {self.path} is not a file")
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BatchUsageError(f"--output: another batch is writing {self.path}") from None

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self, known: set[int]) -> int:
        """Takes in the lines; returns where the last whole one ends."""
        end = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    # Nobody's file is cut but our own.
                    if number == 1 and not (line.startswith(_BEGIN) or _BEGIN.startswith(line)):
                        raise self._foreign(number, "was not written by saccade batch")
                    break
                try:
                    record = json.loads(line)
                    key = read_key(record)
                    failed = has_failed(record)
                except (ValueError, KeyError, TypeError, RecursionError):
                    raise self._foreign(number, "was not written by saccade batch") from None
                if key not in known:
                    raise self._foreign(
                        number,
                        f"answers custom_id {record['custom_id']!r} of another input, or as it "
                        "was before it was changed",
                    )
                self.finished.add(key)
                self.failed += failed
                end += len(line)
        return end

    def _foreign(self, number: int, what: str) -> BatchUsageError:
        return BatchUsageError(
            f"--output: {self.path}, line {number} {what}; name another file, or remove this one"
        )

    def _drop_failed(self) -> None:
        draft = self.path.with_name(f"{self.path.name}.draft")
        with draft.open("wb") as file:
            for _, record in self.records():
                if has_failed(record):
                    self.finished.discard(read_key(record))
                else:
                    file.write(json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)
        self._close()
        self._open()
        self.failed = 0


def read_key(record: dict[str, Any]) -> int:
    """The key of the request that a line answers. Raises ValueError, KeyError or TypeError."""
    name: str = record["id"]
    if not name.startswith(_ID):
        raise ValueError(name)
    return int(name.removeprefix(_ID), 16)
