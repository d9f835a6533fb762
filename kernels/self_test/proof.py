"""Which operations have proved themselves in this process, and which are out of use.

Each compiled or Triton backend of an operation is run on a few tiny inputs before its first use
(`cases`). One that raises, whatever it raises, or that is wrong is put out of use for
the rest of the process, in the number format in which it failed: whoever asks for it takes the
next backend. The log says so once, and `saccade doctor` does.

What cannot be caught is an instruction that the processor does not have: it ends the process. The
compiled file is therefore named after the processor's flags (`kernels/cpu/build.py`).
"""

import functools
import logging
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

logger = logging.getLogger("saccade.kernels")

_LOCK = threading.RLock()  # a test may ask for an operation that has to be tested first
_REASONS: dict[tuple[str, str, torch.dtype], str | None] = {}  # None: it passed
_CACHED: list[Any] = []  # what `functools.cache` returned


class Wrong(Exception):
    """An operation returned something else than its reference."""


class Failure(NamedTuple):
    """An operation that is out of use.

    Attributes:
        backend: ``compiled`` or ``triton``.
        dtype: In which it failed.
        reason: What it raised, or how far off it is.
    """

    operation: str
    backend: str
    dtype: torch.dtype
    reason: str

    def __str__(self) -> str:
        number = str(self.dtype).removeprefix("torch.")
        return f"{self.operation} ({self.backend}, {number}): {self.reason}"


def cached(select: Callable[..., Any]) -> Callable[..., Any]:
    """As `functools.cache`, until the next failure: selects a function that is called often."""
    remembering = functools.cache(select)
    _CACHED.append(remembering)
    return remembering


def forget_selected() -> None:
    """Has everything `cached` selected anew: after a failure, or a change of the environment."""
    for remembering in _CACHED:
        remembering.cache_clear()


def passes(backend: str, operation: str, dtype: torch.dtype, test: Callable[[], None]) -> bool:
    """Whether the operation is in use; runs ``test`` if none was run in this process.

    Args:
        test: Raises where the operation fails.
    """
    key = (operation, backend, dtype)
    if key not in _REASONS:
        with _LOCK:
            if key not in _REASONS:
                try:
                    test()
                except Exception as error:  # whatever a library throws
                    put_out_of_use(backend, operation, dtype, error)
                else:
                    _REASONS[key] = None
    return _REASONS[key] is None


def put_out_of_use(backend: str, operation: str, dtype: torch.dtype, error: Exception) -> None:
    """Take it out of use for the rest of the process, and say so in the log."""
    lines = str(error).strip().splitlines()
    said = lines[0] if lines else ""
    reason = said if isinstance(error, Wrong) else f"raised {type(error).__name__}: {said}"
    with _LOCK:
        _REASONS[operation, backend, dtype] = reason
    forget_selected()
    failure = Failure(operation, backend, dtype, reason)
    logger.warning("out of use, the next backend takes over: %s", failure)


def failures() -> list[Failure]:
    """What is out of use in this process, by now."""
    return [
        Failure(operation, backend, dtype, reason)
        for (operation, backend, dtype), reason in list(_REASONS.items())
        if reason is not None
    ]


def out_of_use(backend: str, operation: str) -> Failure | None:
    """The first failure of this backend of the operation in any number format; None without one."""
    found = (one for one in failures() if (one.backend, one.operation) == (backend, operation))
    return next(found, None)
