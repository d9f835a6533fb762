"""Runs the suite: every check, then every time, within a budget."""

import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch

from .cases.case import Case, Contender, TimedCase
from .cases.truth import relative_error
from .contenders.pytorch import forgotten
from .contenders.times import Times, measure
from .verdict import RIGHT


@dataclass(frozen=True)
class Entry:
    """One way to make a case's result.

    Attributes:
        times: None where there are none.
        bytes: What it moves at least; None if that is not known.
        note: Why there are no times.
    """

    times: Times | None = None
    bytes: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Row:
    """What was measured of one case.

    Attributes:
        bytes: What the operation moves at least; ``flops`` as of `TimedCase`.
        entries: Ours first.
    """

    operation: str
    size: str
    bytes: int
    flops: int
    entries: dict[str, Entry]

    @property
    def ours(self) -> Times | None:
        """Of our kernel; None if it could not be timed."""
        return next(iter(self.entries.values())).times

    def ratio(self, name: str) -> float | None:
        """Its time over ours."""
        times = self.entries[name].times
        return times.median / self.ours.median if times and self.ours else None


@dataclass
class Findings:
    """Of all cases.

    Attributes:
        checks: What was checked: name, and our error (relative, root mean square).
        rows: Of what was timed; none after the first problem.
        problems: One line each.
        cut: What there was no time for.
    """

    checks: list[tuple[str, float]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)


class Lost(Exception):
    """The GPU answers nothing more, as after an access outside its memory."""


@dataclass(frozen=True)
class Examiner:
    """Runs cases on one device until a deadline, which `time.monotonic` tells."""

    device: torch.device
    graph: bool
    deadline: float
    findings: Findings = field(default_factory=Findings)

    def run(
        self, checks: Iterable[Callable[[], Case]], timed: Iterable[Callable[[], TimedCase]]
    ) -> Findings:
        """All checks, then times while nothing is wrong and the budget lasts."""
        try:
            unchecked = self._check_all(checks)
            if unchecked:
                self.findings.problems.append(f"no time for {unchecked} checks: see --minutes")
            for make in timed:
                self._examine(make)
        except Lost as lost:
            self.findings.problems.append(str(lost))
        return self.findings

    def _check_all(self, checks: Iterable[Callable[[], Case]]) -> int:
        """How many there was no time for."""
        unchecked, shown = 0, ""
        for make in checks:
            if time.monotonic() > self.deadline:
                unchecked += 1
                continue
            case = make()
            if case.operation != shown:
                shown = case.operation
                say(f"checks {shown}")
            self._check(case)
        return unchecked

    def _check(self, case: Case) -> bool:
        """Is it right?"""
        name = f"{case.operation}, {case.size}"
        try:
            verdict = case.check()
        except Exception as error:
            self.findings.problems.append(f"{name}: {_reason(error)}")
            self._recover()
            return False
        self.findings.checks.append((name, verdict.error))
        self.findings.problems += [f"{name}: {problem}" for problem in verdict.problems]
        return not verdict.problems

    def _examine(self, make: Callable[[], TimedCase]) -> None:
        case = make()
        name = f"{case.operation}, {case.size}"
        if time.monotonic() > self.deadline:
            self.findings.cut.append(name)
            return
        say(f"times {name}")
        if not self._check(case) or self.findings.problems:
            return
        with forgotten():
            entries = self._time(case, name)
        row = Row(case.operation, case.size, case.bytes, case.flops, entries)
        self.findings.rows.append(row)

    def _time(self, case: TimedCase, name: str) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        calls: dict[str, Callable[[], object]] = {}
        for number, contender in enumerate([case.ours(), *case.others()]):
            if number and time.monotonic() > self.deadline:
                self.findings.cut.append(f"{name}: {contender.name}")
                continue
            entries[contender.name] = Entry(bytes=contender.bytes)
            try:
                with _attention_warnings() as messages:
                    call = _prepared(contender, case.exact)
            except Exception as error:
                note = "; ".join([_reason(error), *messages])
                entries[contender.name] = Entry(bytes=contender.bytes, note=note)
                if not number:
                    self.findings.problems.append(f"{name}, as a registered operation: {note}")
                self._recover()
                continue
            calls[contender.name] = call
        for which, times in measure(calls, self.device, self.graph).items():
            if isinstance(times, Exception):
                self._recover()
                entries[which] = Entry(bytes=entries[which].bytes, note=_reason(times))
            else:
                entries[which] = Entry(times, entries[which].bytes)
        return entries

    def _recover(self) -> None:
        """After an error: free what it holds.

        Raises:
            Lost: the device is lost to this process.
        """
        if self.device.type == "cuda":
            try:
                torch.cuda.synchronize(self.device)
                torch.cuda.empty_cache()
            except Exception as error:
                raise Lost(f"the GPU is lost, nothing else was run: {_reason(error)}") from error


def _prepared(contender: Contender, exact: torch.Tensor) -> Callable[[], object]:
    """The call to be timed, after one call that was right.

    Raises:
        ValueError: it was not. Others: whatever the contender raises.
    """
    call = contender.make()
    made = call()
    if made is not None:  # else it works in place, and `check` has looked at it
        result = contender.result(made) if contender.result else made
        assert isinstance(result, torch.Tensor)
        error = relative_error(result, exact)
        if not error <= RIGHT:  # so that NaN is wrong
            raise ValueError(f"its error is {error:.2g}: it computes something else")
    return call


@contextmanager
def _attention_warnings() -> Iterator[list[str]]:
    """Warnings in here, one line each, once: PyTorch's say why a back end does not run."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield messages
        finally:
            lines = [str(warning.message).split("(Triggered")[0].strip() for warning in caught]
            messages += [line for line in dict.fromkeys(lines) if "not used because" in line]


def _reason(error: Exception) -> str:
    first = str(error).strip().partition("\n")[0].partition(". ")[0][:200]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


say = partial(print, file=sys.stderr, flush=True)  # how far it is, without touching the output
