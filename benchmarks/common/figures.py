"""From outcomes to figures: is every answer right, and how fast did they come."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from saccade.benchmarks.common.load import Load, Outcome
from saccade.benchmarks.common.workloads import FRAMING_TOKENS, Request

_FINISH_REASONS = ("stop", "length")


@dataclass(frozen=True)
class Percentiles:
    """Of a set of times, in milliseconds."""

    p50: float
    p90: float
    p99: float
    mean: float


@dataclass(frozen=True)
class Figures:
    """What a run without a wrong answer says."""

    requests: int
    seconds: float
    requests_per_second: float
    output_tokens_per_second: float
    prompt_tokens: int
    visual_tokens: int
    output_tokens: int
    ttft_ms: Percentiles  # time to first token
    itl_ms: Percentiles | None  # inter-token latency; None where answers have one piece
    e2e_ms: Percentiles  # whole request

    def flat(self) -> dict[str, float]:
        """One level of plain numbers, e.g. ttft_ms_p50."""
        numbers: dict[str, float] = {}
        for name, value in asdict(self).items():
            if isinstance(value, dict):
                numbers |= {f"{name}_{part}": number for part, number in value.items()}
            elif value is not None:
                numbers[name] = value
        return numbers


def percentiles(seconds: Sequence[float]) -> Percentiles:
    """Percentiles of at least one time, interpolated between neighbours."""
    times = np.asarray(seconds, dtype=np.float64) * 1000
    p50, p90, p99 = (float(value) for value in np.percentile(times, (50, 90, 99)))
    return Percentiles(p50, p90, p99, float(times.mean()))


def find_problems(
    requests: Sequence[Request], outcomes: Sequence[Outcome], text_tokens: int
) -> list[str]:
    """Why the run must not be reported; empty if every answer is right.

    Args:
        text_tokens: what the server says the prompt costs without its medium.
    """
    problems = []
    if len(requests) != len(outcomes):
        problems.append(f"{len(requests)} requests, but {len(outcomes)} outcomes")
    for request, outcome in zip(requests, outcomes, strict=False):
        if problem := _problem(request, outcome, text_tokens):
            problems.append(f"request {request.index}: {problem}")
    return problems


def _problem(request: Request, outcome: Outcome, text_tokens: int) -> str | None:
    if outcome.error is not None:
        return f"{outcome.error} {outcome.detail}".strip()
    if not outcome.text or not outcome.completion_tokens:
        return "the answer is empty"
    if outcome.finish_reason not in _FINISH_REASONS:
        return f"finish_reason is {outcome.finish_reason!r}"
    expected = text_tokens + request.visual_tokens + FRAMING_TOKENS
    if outcome.prompt_tokens != expected:
        return (
            f"usage.prompt_tokens is {outcome.prompt_tokens}, but {text_tokens} for the text, "
            f"{FRAMING_TOKENS} around the {request.kind} and {request.visual_tokens} planned "
            f"for it make {expected}"
        )
    if outcome.visual_tokens not in (None, request.visual_tokens):
        return (
            f"usage says {outcome.visual_tokens} {request.kind} tokens, "
            f"planned are {request.visual_tokens}"
        )
    return None


def summarise(requests: Sequence[Request], load: Load) -> Figures:
    """The figures of a run in which `find_problems` found none."""
    outcomes = load.outcomes
    first = [o.first_token for o in outcomes if o.first_token is not None]
    total = [o.total for o in outcomes if o.total is not None]
    gaps = [gap for o in outcomes for gap in o.gaps]
    output_tokens = sum(o.completion_tokens or 0 for o in outcomes)
    assert len(first) == len(total) == len(requests), "the run has wrong answers"
    return Figures(
        requests=len(requests),
        seconds=load.seconds,
        requests_per_second=len(requests) / load.seconds,
        output_tokens_per_second=output_tokens / load.seconds,
        prompt_tokens=sum(o.prompt_tokens or 0 for o in outcomes),
        visual_tokens=sum(request.visual_tokens for request in requests),
        output_tokens=output_tokens,
        ttft_ms=percentiles(first),
        itl_ms=percentiles(gaps) if gaps else None,
        e2e_ms=percentiles(total),
    )
