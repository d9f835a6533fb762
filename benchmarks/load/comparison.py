"""What rounds come to: medians, and ratios of two servers with their confidence intervals."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from saccade.benchmarks.load.runs import Run

# Two-sided 95 % quantiles of Student's t, from one degree of freedom up; beyond, the last is wide
# enough (the normal distribution's is 1.960).
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)

METRICS: dict[str, Callable[[Run], float | None]] = {
    "requests_per_second": lambda run: run.requests_per_second,
    "goodput": lambda run: run.goodput,
    "ttft_p50_ms": lambda run: run.ttft_ms.p50,
    "ttft_p99_ms": lambda run: run.ttft_ms.p99,
    "itl_p50_ms": lambda run: run.itl_ms.p50 if run.itl_ms else None,
    "e2e_p50_ms": lambda run: run.e2e_ms.p50,
    "e2e_p99_ms": lambda run: run.e2e_ms.p99,
    "cpu_ms_per_request": lambda run: _per_request(run.cpu_seconds, run),
    "api_cpu_ms_per_request": lambda run: _per_request(run.api_cpu_seconds, run),
    "memory_mib": lambda run: None if run.memory_bytes is None else run.memory_bytes / 2**20,
}
"""What is told of the runs of one server at one rate."""


@dataclass(frozen=True)
class Ratio:
    """The first server's figure over the second's: geometric mean of the rounds, 95 % interval."""

    value: float
    low: float | None  # None: of a single round nothing is known
    high: float | None

    def text(self) -> str:
        """E.g. ``1.32 [1.25, 1.39]``."""
        if self.low is None or self.high is None:
            return f"{self.value:.2f}"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def ratio(first: Sequence[float], second: Sequence[float]) -> Ratio:
    """Of figures above 0, round by round: both servers of a round had the same requests."""
    logs = [math.log(one / other) for one, other in zip(first, second, strict=True)]
    middle = statistics.fmean(logs)
    if len(logs) < 2:
        return Ratio(math.exp(middle), None, None)
    quantile = _STUDENT[min(len(logs) - 1, len(_STUDENT)) - 1]
    half = quantile * statistics.stdev(logs) / math.sqrt(len(logs))
    return Ratio(math.exp(middle), math.exp(middle - half), math.exp(middle + half))


def medians(runs: Sequence[Run]) -> dict[str, float]:
    """The median over the rounds of each metric that all of them have."""
    found = {}
    for name, metric in METRICS.items():
        values = [value for run in runs if (value := metric(run)) is not None]
        if len(values) == len(runs):
            found[name] = statistics.median(values)
    return found


def ratios(of_rate: Mapping[str, Sequence[Run]]) -> dict[str, Ratio]:
    """Of the first of two servers over the second, for each metric that has them.

    CPU time may seem to have shrunk: a process that has ended takes its own along.
    """
    first, second = of_rate.values()
    found = {}
    for name, metric in METRICS.items():
        pairs = [(metric(one), metric(other)) for one, other in zip(first, second, strict=True)]
        known = [(one, other) for one, other in pairs if one and other and min(one, other) > 0]
        if len(known) == len(pairs):
            found[name] = ratio(*zip(*known, strict=True))
    return found


def _per_request(seconds: float | None, run: Run) -> float | None:
    return None if seconds is None else 1000 * seconds / run.requests
