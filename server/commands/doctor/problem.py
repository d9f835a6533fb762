"""What may be wrong, and what mends it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is, as it is printed."""

    WRONG = "WRONG"  # the server would not start, or not do all that it should
    SLOW = "SLOW"  # it answers rightly, but not as fast as it could
    NOTE = "NOTE"  # to be known


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        what: In one line.
        mend: The command or the setting that mends it; empty for a note.
        fix: Does it, and returns what it did in one line. None: only a person can. Raises OSError,
            RuntimeError: it cannot be done; one line.
    """

    what: str
    mend: str = ""
    fix: Callable[[], str] | None = None
    severity: Severity = Severity.WRONG


Check = Callable[[], Iterator[str | Problem]]
"""Yields what was found, a line each, and what is wrong."""
