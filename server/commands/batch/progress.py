"""How far a batch is: a bar on a terminal, a line now and then elsewhere. On stderr."""

import sys
import time
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

_SECONDS = 10.0  # between two lines


class Progress:
    """A context: counts finished requests and shows them."""

    def __init__(self, total: int, finished: int) -> None:
        """`finished` of `total` were answered before this run."""
        self._total = total
        self._finished = finished
        self._before = finished
        self._failed = 0
        self._at_a_time = 0
        self._begin = self._shown = time.monotonic()
        self._bar: RichProgress | None = None
        console = Console(stderr=True)
        if console.is_terminal:
            self._bar = RichProgress(
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.description}"),
                TimeRemainingColumn(elapsed_when_finished=True),
                console=console,
            )
            self._task = self._bar.add_task("", total=total, completed=finished)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        else:
            self._print()

    def advance(self, *, failed: bool, at_a_time: int) -> None:
        """One more is finished; `at_a_time` are sent at a time now."""
        self._finished += 1
        self._failed += failed
        self._at_a_time = at_a_time
        if self._bar is not None:
            self._bar.update(self._task, advance=1, description=self._describe())

    def tick(self) -> None:
        """Called about once a second."""
        if self._bar is None and time.monotonic() - self._shown >= _SECONDS:
            self._print()

    def say(self, message: str) -> None:
        """A line of its own."""
        if self._bar is not None:
            self._bar.console.print(message, markup=False, highlight=False)
        else:
            print(message, file=sys.stderr, flush=True)

    def _rate(self) -> float:
        """Requests a second of this run."""
        return (self._finished - self._before) / max(time.monotonic() - self._begin, 1e-3)

    def _describe(self) -> str:
        failed = f", {self._failed:,} failed" if self._failed else ""
        return f"{self._rate():.3g}/s, {self._at_a_time} at a time{failed}"

    def _print(self) -> None:
        self._shown = time.monotonic()
        line = f"{self._finished:,} of {self._total:,}, {self._describe()}"
        if (rate := self._rate()) and (left := self._total - self._finished):
            line += f", {timedelta(seconds=round(left / rate))} left"
        print(line, file=sys.stderr, flush=True)
