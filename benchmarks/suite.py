"""`saccade bench all`: every benchmark, their reports in a folder, their tables in documents.

A table stands between two lines of its document, ``<!-- bench NAME -->`` and ``<!-- end -->``, and
is written from the report, so that no number is copied by hand.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saccade.benchmarks.common.report import provenance_line, say
from saccade.benchmarks.load.report import headline, markdown
from saccade.server.commands.child import saccade_command

_EPILOG = """examples:
  saccade bench all --quick                some fifteen minutes on two cores; figures are rough
  saccade bench all --only load --only serve
  saccade bench all --only-tables          writes the tables anew from the reports that there are

Run it in a checkout. Each benchmark runs by itself, one after the other. Every number carries
machine, versions, date and command.

exit codes: 0 done, 1 a benchmark failed or an answer was wrong, 2 wrong use, 130 interrupted
"""
_MARKED = re.compile(r"(<!-- bench (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """A benchmark, and the flags it runs with."""

    full: tuple[str, ...]
    quick: tuple[str, ...]


_LOAD = ("--versus=stock", "--rates=inf,50%,80%")
# Not `kernels`: it is about a GPU, and has a document of its own.
SUITE = {
    "load": Entry(_LOAD, (*_LOAD, "--profile=image-448", "--rounds=2", "--requests=24")),
    "serve": Entry(("--versus=stock", "--max-tokens=4"), ("--versus=stock", "--requests=32")),
    "again": Entry((), ("--only=chat", "--rounds=1")),
    "host-path": Entry((), ("--requests=8", "--rounds=1")),
    "clip-path": Entry((), ("--rounds=1",)),
    "tower": Entry((), ("--layers=4", "--patches=1024", "--rounds=1")),
    "planning": Entry((), ()),
    "liveliness": Entry((), ("--requests=8",)),
    "overload": Entry((), ("--clients=20", "--seconds=20", "--questions=4")),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's flags."""
    parser.description = "Runs every benchmark; writes their reports and the tables of documents."
    parser.epilog = _EPILOG
    parser.add_argument("--only", choices=SUITE, action="append", help="default: all")
    parser.add_argument("--quick", action="store_true", help="few requests and rounds")
    parser.add_argument(
        "--only-tables", action="store_true", help="run nothing, write the tables of the reports"
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("benchmarks/results"),
        metavar="FOLDER",
        help="of the reports (default: benchmarks/results)",
    )
    parser.add_argument(
        "--document",
        type=Path,
        action="append",
        metavar="FILE",
        help="with tables (default: README.md and docs/benchmarks.md)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the benchmarks; returns the exit code."""
    documents = args.document or [Path("README.md"), Path("docs/benchmarks.md")]
    for file in documents:
        if not file.is_file():
            print(f"saccade bench: error: {file} is no file: run it in a checkout", file=sys.stderr)
            return 2
    args.results.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in () if args.only_tables else dict.fromkeys(args.only or SUITE):
        say(f"saccade bench {name}")
        if _run(name, SUITE[name].quick if args.quick else SUITE[name].full, args.results):
            failed.append(name)
    for file in documents:
        write_tables(file, args.results)
    if failed:
        print(f"saccade bench: error: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _run(name: str, flags: tuple[str, ...], results: Path) -> int:
    """Run one benchmark; returns its exit code."""
    more = [f"--json={results / name}.json"]
    if name == "load":
        more.append(f"--svg={results / name}.svg")
    # Our own command line, no shell.
    return subprocess.run([*saccade_command(), "bench", name, *flags, *more]).returncode  # noqa: S603


def write_tables(document: Path, results: Path) -> None:
    """Put the table of each report into its place in the document; others stay as they are."""

    def table(match: re.Match[str]) -> str:
        start, name, end = match.groups()
        file = results / f"{name.removesuffix('-headline')}.json"
        if not file.is_file():
            return match[0]
        return f"{start}{_table(name, json.loads(file.read_text(encoding='utf-8')))}{end}"

    text = document.read_text(encoding="utf-8")
    document.write_text(_MARKED.sub(table, text), encoding="utf-8")


def _table(name: str, report: Mapping[str, Any]) -> str:
    if report["result"] is None:
        return f"No figures: an answer was wrong. {provenance_line(report)}\n"
    if name == "load":
        return markdown(dict(report))
    if name == "load-headline":
        return headline(dict(report))
    rows = [f"| `{key}` | {_number(value)} |" for key, value in report["result"].items()]
    return "\n".join(["| | |", "|---|---:|", *rows, "", provenance_line(report)]) + "\n"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3g}"
