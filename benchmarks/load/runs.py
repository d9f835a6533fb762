"""The runs of a profile: every server at every rate, in rounds by turns.

All servers get the same requests at the same moments. No two runs have the same requests, so that
no server has seen any of them before. The first round is preceded by one that warms up.
"""

import math
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from saccade.benchmarks.common.figures import Percentiles, percentiles
from saccade.benchmarks.common.report import say
from saccade.benchmarks.load.checks import Checker
from saccade.benchmarks.load.dataset import write_dataset
from saccade.benchmarks.load.generator import Generator, Order, Result
from saccade.benchmarks.load.profiles import Profile, Sample
from saccade.benchmarks.load.rates import Rate
from saccade.benchmarks.load.witnesses import with_witnesses
from saccade.benchmarks.serving.server_watch import all_seconds, api_seconds, held

_WARM_UP_SHARE = 4  # one of so many requests of a run
# Indices from the first of a run to that of the next: whole conversations, alone and in `mixed`.
_STRIDE = 80 * 1024


@dataclass(frozen=True)
class Target:
    """A server that is measured."""

    url: str
    model: str
    pid: int | None = None  # where it runs on this machine, and we may see it


@dataclass(frozen=True)
class Plan:
    """What every run of a profile has in common."""

    requests: int
    rounds: int
    rates: Sequence[Rate]
    max_tokens: int
    seed: int
    witnesses: bool
    slo: Mapping[str, float]
    concurrency: int | None = None


@dataclass(frozen=True)
class Run:
    """What one run says. Times of witnesses are left out, what they cost is not."""

    rate: float  # offered, requests a second
    requests: int
    seconds: float
    requests_per_second: float
    output_tokens_per_second: float
    ttft_ms: Percentiles  # time to first token
    e2e_ms: Percentiles  # whole request
    itl_ms: Percentiles | None  # between tokens
    goodput: float | None  # requests a second within the SLO
    cpu_seconds: float | None  # of the server, where it is local
    api_cpu_seconds: float | None  # of those what is not the engine's
    memory_bytes: int | None  # resident, at the end


@dataclass
class Measured:
    """All runs of a profile, in rounds: by rate's label and server's name."""

    runs: dict[str, dict[str, list[Run]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def measure(
    name: str,
    profile: Profile,
    plan: Plan,
    targets: Mapping[str, Target],
    generator: Generator,
    checker: Checker,
) -> Measured:
    """Measure the servers; the last of them is the one whose saturation shares are of.

    Stops at the first run with a wrong answer.

    Raises:
        LoadError: a server does not answer what is asked to check it.
    """
    measured = Measured()
    reference = list(targets)[-1]
    saturation = math.nan
    first = 0  # index of the run's first request
    for number in range(plan.rounds + 1):
        warm_up = number == 0
        order = list(targets)[:: 1 if number % 2 else -1]
        count = max(1, plan.requests // _WARM_UP_SHARE) if warm_up else plan.requests
        for rate in (Rate(math.inf),) if warm_up else plan.rates:
            say(f"{name}, " + ("warming up" if warm_up else f"round {number}, rate {rate.label}"))
            samples = profile.samples(plan.seed, range(first, first + count))
            if plan.witnesses:
                samples = with_witnesses(samples, plan.seed + first)
            offered = rate.resolve(saturation)
            results: dict[str, Result] = {}
            runs: dict[str, Run] = {}
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / f"{name}.jsonl"
                write_dataset(file, samples)
                for which in order:
                    results[which], runs[which] = _run(
                        plan, targets[which], generator, samples, file, offered, plan.seed + first
                    )
            problems = checker.problems(samples, {which: results[which] for which in targets})
            if problems:
                measured.problems += [f"{name} at {offered:g} a second, {one}" for one in problems]
                return measured
            first += _STRIDE
            if warm_up:
                continue
            if math.isinf(offered) and math.isnan(saturation):
                saturation = runs[reference].requests_per_second
            of_rate = measured.runs.setdefault(rate.label, {which: [] for which in targets})
            for which, run in runs.items():
                of_rate[which].append(run)
    return measured


def _run(
    plan: Plan,
    target: Target,
    generator: Generator,
    samples: Sequence[Sample],
    file: Path,
    rate: float,
    seed: int,
) -> tuple[Result, Run]:
    before = _processor_seconds(target.pid)
    result = generator.run(
        Order(
            file, target.url, target.model, rate, plan.max_tokens, seed, plan.concurrency, plan.slo
        )
    )
    after = _processor_seconds(target.pid)
    used = None if before is None or after is None else (after[0] - before[0], after[1] - before[1])
    return result, summarise(samples, result, rate, used, _memory(target.pid))


def summarise(
    samples: Sequence[Sample],
    result: Result,
    rate: float,
    cpu: tuple[float, float] | None,
    memory: int | None,
) -> Run:
    """A run's figures, from what vLLM's generator keeps of every request."""
    kept = [index for index, sample in enumerate(samples) if sample.answer is None]
    kept = kept or list(range(len(samples)))
    gaps = [gap for index in kept for gap in result["itls"][index]]
    return Run(
        rate=rate,
        requests=len(samples),
        seconds=result["duration"],
        requests_per_second=result["request_throughput"],
        output_tokens_per_second=result["output_throughput"],
        ttft_ms=percentiles([result["ttfts"][index] for index in kept]),
        e2e_ms=percentiles([result["latencies"][index] for index in kept]),
        itl_ms=percentiles(gaps) if gaps else None,
        goodput=result["request_goodput"],
        cpu_seconds=cpu[0] if cpu else None,
        api_cpu_seconds=cpu[1] if cpu else None,
        memory_bytes=memory,
    )


def _processor_seconds(pid: int | None) -> tuple[float, float] | None:
    if pid is not None:
        with suppress(psutil.Error):
            return all_seconds(pid), api_seconds(pid)
    return None


def _memory(pid: int | None) -> int | None:
    if pid is not None:
        with suppress(psutil.Error):
            return held(pid).memory
    return None
