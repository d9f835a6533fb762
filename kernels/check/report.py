"""What the kit says: where it ran, a table, JSON, and one line for machines."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from .contenders.times import Roof
from .findings import Entry, Findings, Row

_MAX_SHOWN = 20


def heading(
    hardware: Mapping[str, object],
    versions: Mapping[str, str],
    revision: str | None,
    roofs: Mapping[str, Roof],
    backends: Mapping[str, str],
) -> str:
    """Where it runs, and what.

    Args:
        roofs: By where they are from.
        backends: Of each operation, and of vLLM; in words.
    """
    facts = ", ".join(f"{name} {fact}" for name, fact in hardware.items() if fact is not None)
    lines = [
        f"hardware    {facts}",
        "versions    " + ", ".join(f"{name} {number}" for name, number in versions.items()),
        f"revision    {revision or 'unknown: not a checkout'}",
    ]
    for source, roof in roofs.items():
        rates = f"{_plain(roof.bandwidth)} GB/s, {_plain(roof.flops)} TFLOP/s in 16 bits"
        lines.append(f"roof        {rates}, {source}")
    return "\n".join(lines + [f"{name:<18}{backend}" for name, backend in backends.items()])


def table(rows: Sequence[Row], roof: Roof, graph: bool) -> str:
    """For a terminal, operation by operation."""
    how = "CUDA graphs, warm caches" if graph else "single calls, empty caches"
    lines = [
        f"microseconds of {how}; per cent of the roofline; times as long as saccade",
        f"{'':<34}{'median':>10}{'p20 to p80':>22}{'roofline':>10}{'ratio':>8}",
    ]
    for operation in dict.fromkeys(row.operation for row in rows):
        for row in rows:
            if row.operation == operation:
                lines.append(f"{operation}, {row.size}")
                lines += [_line(row, name, entry, roof) for name, entry in row.entries.items()]
    return "\n".join(lines)


def _line(row: Row, name: str, entry: Entry, roof: Roof) -> str:
    if entry.times is None:
        return f"  {name:<32}  {entry.note}"
    times, ratio = entry.times, row.ratio(name)
    spread = f"{times.p20:.1f} to {times.p80:.1f}"
    share = _plain(share_of_roofline(row, entry, roof), " %")
    shown = "" if ratio is None else f"{ratio:.2f}"
    return f"  {name:<32}{times.median:>10.1f}{spread:>22}{share:>10}{shown:>8}"


def share_of_roofline(row: Row, entry: Entry, roof: Roof) -> float | None:
    """The least time that the operation needs, in per cent of what it took."""
    least = roof.microseconds(row.bytes, row.flops)
    if least is None or entry.times is None:
        return None
    return 100 * least / entry.times.median


def cut_list(cut: Sequence[str], minutes: float) -> str:
    """What there was no time for."""
    return f"cut after {minutes:g} minutes:\n" + _listed(cut)


def problem_list(problems: Sequence[str]) -> str:
    """Why there are no figures."""
    return "no figures:\n" + _listed(problems)


def _listed(lines: Sequence[str]) -> str:
    more = [f"  and {len(lines) - _MAX_SHOWN} more"] if len(lines) > _MAX_SHOWN else []
    return "\n".join([*(f"  {line}" for line in lines[:_MAX_SHOWN]), *more])


def result_of(rows: Sequence[Row], roof: Roof) -> dict[str, float]:
    """The numbers of the last line: of each operation its first case, the one that says most.

    ``_us`` and ``_roofline`` are ours (microseconds, per cent); ``_vs_vllm`` is vLLM's time over
    ours, ``_vs_pytorch`` that of the fastest of PyTorch's ways.
    """
    result: dict[str, float] = {}
    for operation in dict.fromkeys(row.operation for row in rows):
        row = next(row for row in rows if row.operation == operation)
        ours = next(iter(row.entries.values()))
        if ours.times is None:
            continue
        result[f"{operation}_us"] = ours.times.median
        share = share_of_roofline(row, ours, roof)
        if share is not None:
            result[f"{operation}_roofline"] = share
        for prefix, key in (("vLLM", "vs_vllm"), ("PyTorch", "vs_pytorch")):
            ratios = [row.ratio(name) for name in row.entries if name.startswith(prefix)]
            known = [ratio for ratio in ratios if ratio is not None]
            if known:
                result[f"{operation}_{key}"] = min(known)
    return result


def result_line(result: Mapping[str, float]) -> str:
    """`RESULT key=value ...`."""
    numbers = (
        f"{name}={value}" if isinstance(value, int) else f"{name}={value:.3f}"
        for name, value in result.items()
    )
    return "RESULT " + " ".join(numbers)


def flat(row: Row, roof: Roof) -> dict[str, object]:
    """For JSON."""
    contenders = {
        name: {
            "microseconds": None if entry.times is None else dataclasses.asdict(entry.times),
            "bytes": entry.bytes,
            "roofline_percent": share_of_roofline(row, entry, roof),
            "ratio": row.ratio(name),
            "note": entry.note or None,
        }
        for name, entry in row.entries.items()
    }
    return {
        "operation": row.operation,
        "size": row.size,
        "bytes": row.bytes,
        "flops": row.flops,
        "contenders": contenders,
    }


def write_json(file: Path, findings: Findings, more: Mapping[str, object]) -> None:
    """Everything that is known about a run."""
    report = {
        "benchmark": "kernels",
        "correct": not findings.problems,
        "problems": findings.problems,
        "checks": [{"case": name, "error": error} for name, error in findings.checks],
        "cut": findings.cut,
        **more,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _plain(number: float | None, unit: str = "") -> str:
    return "unknown" if number is None else f"{number:.0f}{unit}"
