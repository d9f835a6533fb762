"""What a benchmark says: JSON for machines, a table for people, one RESULT line for both."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from saccade.benchmarks.common.figures import Figures, Percentiles
from saccade.server.core.environment import environment

_MAX_SHOWN_PROBLEMS = 10


def write_json(
    path: Path,
    arguments: Mapping[str, object],
    figures: Figures | None,
    errors: Mapping[str, int],
    problems: Sequence[str],
    server: Mapping[str, object],
) -> None:
    """Write everything that is known about a run; without figures if an answer was wrong.

    Args:
        arguments: of the command, as far as they decide the run.
        server: what the server says about itself.
    """
    report = {
        "benchmark": "serve",
        "correct": not problems,
        "arguments": dict(arguments),
        "result": figures.flat() if figures is not None else None,
        "errors": dict(errors),
        "problems": list(problems),
        "server": dict(server),
    }
    write_report(path, report)


def write_report(path: Path, report: Mapping[str, object]) -> None:
    """Write what a benchmark found out, and where, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**report, **environment()}, indent=2)
    path.write_text(text + "\n", encoding="utf-8")


def conclude(
    benchmark: str,
    result: Mapping[str, float] | None,
    problems: Sequence[str],
    table: str,
    file: Path | None,
    more: Mapping[str, object],
) -> int:
    """Print the end of a comparison, write its report; returns the exit code.

    Args:
        result: the numbers of the last line; None if there are problems.
        table: for people, printed before it.
        file: where the JSON goes, if anywhere, with ``more`` in it.
    """
    if result is None:
        print("no figures:", problem_list(problems), "RESULT correct=0", sep="\n")
    else:
        print(table)
        print("RESULT " + " ".join(f"{name}={_plain(value)}" for name, value in result.items()))
    if file is not None:
        report = {"benchmark": benchmark, "result": result, "problems": list(problems)}
        write_report(file, {**report, **more})
    return 1 if result is None else 0


def say(text: str) -> None:
    """Tell how far the benchmark is, without touching its output."""
    print(text, file=sys.stderr, flush=True)


def table(figures: Figures) -> str:
    """The figures for a terminal."""
    lines = [
        f"{figures.requests} requests in {figures.seconds:.2f} s",
        f"  {figures.requests_per_second:10.2f} requests/s",
        f"  {figures.output_tokens_per_second:10.2f} output tokens/s",
        f"  {figures.visual_tokens / figures.seconds:10.0f} visual tokens/s",
        "",
        f"{'milliseconds':<28}{'p50':>10}{'p90':>10}{'p99':>10}{'mean':>10}",
        _row("time to first token", figures.ttft_ms),
    ]
    if figures.itl_ms is not None:
        lines.append(_row("between tokens", figures.itl_ms))
    lines.append(_row("whole request", figures.e2e_ms))
    return "\n".join(lines)


def _row(name: str, times: Percentiles) -> str:
    return f"{name:<28}{times.p50:10.1f}{times.p90:10.1f}{times.p99:10.1f}{times.mean:10.1f}"


def problem_list(problems: Sequence[str]) -> str:
    """The first problems, and how many more there are."""
    shown = [f"  {problem}" for problem in problems[:_MAX_SHOWN_PROBLEMS]]
    if len(problems) > _MAX_SHOWN_PROBLEMS:
        shown.append(f"  and {len(problems) - _MAX_SHOWN_PROBLEMS} more")
    return "\n".join(shown)


def result_line(
    figures: Figures | None, requests: int, errors: Mapping[str, int], problems: Sequence[str]
) -> str:
    """`RESULT key=value ...`; no times and rates unless every answer was right."""
    numbers: dict[str, float] = {"correct": int(not problems), "errors": sum(errors.values())}
    numbers |= {f"errors_{kind}": count for kind, count in errors.items()}
    numbers |= figures.flat() if figures is not None else {"requests": requests}
    return "RESULT " + " ".join(f"{name}={_plain(value)}" for name, value in numbers.items())


def _plain(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"
