"""`saccade bench host-path`: what an image costs the CPU before the engine, beside stock vLLM."""

import argparse
import base64
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from saccade.benchmarks.common.arguments import positive
from saccade.benchmarks.common.report import conclude, say
from saccade.benchmarks.common.rust import NoRust
from saccade.benchmarks.common.stock import NoStock
from saccade.benchmarks.common.workloads import draw_image, encode_jpeg
from saccade.benchmarks.preprocessing.path_client import WAYS, PathError, PathProcess, Way
from saccade.server.commands.child import ServerError

_EPILOG = """examples:
  saccade bench host-path
  saccade bench host-path --requests 8 --rounds 1 --json host-path.json
  saccade bench host-path --versus rust

From the bytes of a chat request with a picture in a data URL to the message that would go to the
engine; no engine runs. Saccade and stock vLLM with its defaults, each in a process of its own, get
the same bytes, all requests of a kind at once, by turns; figures are medians of the rounds. The
floor is JPEG decoding alone, on as many threads. Unless the pixels of every picture are equal on
both ways, no figures are printed.

The last line is RESULT cpu_ratio_1080p= (stock's CPU seconds over ours) cpu_ratio_12mp=
floor_ratio_1080p= (ours over the floor) rate_ratio_1080p= (our pictures per second over stock's)
scaling_all_cores= (our pictures per second on all cores over one) bytes_ratio= (ours over stock's).

With --versus rust, servers are asked over HTTP instead: ours, stock vLLM with one API process and
with two, and vLLM's Rust front end (its wheel for GPUs is downloaded once, 330 MB), all before an
engine that computes nothing, by 1 and by 16 clients, on all cores and on one. Saccade's pixels and
stock's have to be equal, Rust's within a level on average. Where another server than ours fails
under load, that is told and its figures are nan. The last line is RESULT, for 1080p and
12 megapixels: rate_rust_ (our pictures per second over Rust's, 16 clients, all cores) cpu_rust_
(our CPU seconds over Rust's) latency_rust_ (our time over Rust's, one client) rate_python_ (our
pictures per second over the better stock's).
"""


@dataclass(frozen=True)
class Case:
    """Images of one format and size."""

    format: str  # JPEG, PNG or WEBP
    width: int
    height: int

    @property
    def name(self) -> str:
        """As the report names it, e.g. ``JPEG 1920x1080``."""
        return f"{self.format} {self.width}x{self.height}"

    def body(self, seed: int, index: int) -> bytes:
        """A chat request with image number ``index``."""
        pixels = draw_image(self.width, self.height, seed, index)
        if self.format == "JPEG":
            data = encode_jpeg(pixels)
        else:
            file = BytesIO()
            Image.fromarray(pixels).save(file, self.format, **_SAVED[self.format])
            data = file.getvalue()
        encoded = base64.b64encode(data).decode("ascii")
        url = f"data:image/{self.format.lower()};base64,{encoded}"
        part = {"type": "image_url", "image_url": {"url": url}}
        message = {"role": "user", "content": [part, {"type": "text", "text": "Describe it."}]}
        return json.dumps({"model": "demo", "messages": [message]}).encode()


SMALL, MIDDLE = Case("JPEG", 1024, 768), Case("JPEG", 1920, 1080)
LARGE, _PAGE = Case("JPEG", 4032, 3024), Case("PNG", 1275, 1650)
_WEB = Case("WEBP", 1275, 1650)
CASES = (SMALL, MIDDLE, LARGE, _PAGE, _WEB)
_SAVED: dict[str, dict[str, int]] = {"PNG": {"compress_level": 3}, "WEBP": {"quality": 80}}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the benchmark's flags."""
    parser.description = "Measures the media path without an engine, beside stock vLLM's."
    parser.epilog = _EPILOG
    parser.add_argument(
        "--requests", type=positive(int), default=18, help="at once, of each kind (default: 18)"
    )
    parser.add_argument("--rounds", type=positive(int), default=9, help="of each (default: 9)")
    parser.add_argument("--seed", type=int, default=0, help="of the images (default: 0)")
    parser.add_argument(
        "--versus", choices=("rust",), help="serve, beside vLLM's Rust front end as well"
    )
    parser.add_argument(
        "--rust", type=Path, metavar="FILE", help="vllm-rs, instead of downloading it"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to this file")


def run(args: argparse.Namespace) -> int:
    """Run the benchmark; returns the exit code."""
    try:
        if args.versus:
            from saccade.benchmarks.preprocessing.served import run_served

            return run_served(args)
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            files = _write_bodies(Path(folder), args.requests, args.seed)
            say("starting the four media paths")
            children = {
                (way, cores): PathProcess(way, cores) for cores in (None, 1) for way in WAYS
            }
            for child in children.values():
                stack.enter_context(child)
            measured, problems, sent = {}, [], {}
            for case in CASES:
                say(case.name)
                seen = {way: children[way, None].ask("check", files[case]) for way in WAYS}
                problems += _differences(case, seen)
                if case is MIDDLE:
                    sent = {way: sum(one["sent"] for one in seen[way]) for way in WAYS}
                measured[case] = _measure(case, children, files[case], args.rounds)
    except (NoStock, NoRust, PathError, ServerError) as error:
        if tail := getattr(error, "log_tail", ""):
            print(f"the server's last lines:\n{tail}", file=sys.stderr)
        print(f"saccade bench: error: {error}", file=sys.stderr)
        return 1
    result = None if problems else _result(measured, sent)
    cases = {case.name: figures for case, figures in measured.items()} if result else None
    arguments = {"requests": args.requests, "rounds": args.rounds, "seed": args.seed}
    more = {"arguments": arguments, "cases": cases}
    return conclude("host-path", result, problems, _table(measured), args.json, more)


Children = Mapping[tuple[Way, int | None], PathProcess]
Figures = dict[str, dict[str, float]]


def _write_bodies(folder: Path, requests: int, seed: int) -> dict[Case, list[str]]:
    def write(place: tuple[Case, int]) -> str:
        case, index = place
        file = folder / f"{case.name}-{index}.json"
        file.write_bytes(case.body(seed, index))
        return str(file)

    with ThreadPoolExecutor() as pool:
        return {
            case: list(pool.map(write, [(case, index) for index in range(requests)]))
            for case in CASES
        }


def _differences(case: Case, seen: Mapping[Way, list[dict[str, Any]]]) -> list[str]:
    return [
        f"{case.name}, image {number}: {ours['grid']} and {stock['grid']} patches"
        for number, (ours, stock) in enumerate(zip(seen["ours"], seen["stock"], strict=True))
        if (ours["grid"], ours["digest"]) != (stock["grid"], stock["digest"])
    ]


def _measure(case: Case, children: Children, files: list[str], rounds: int) -> Figures:
    """By path: medians an image, in seconds and bytes, and the peak of memory in bytes.

    The first round, in which memory is measured and buffers are new, is not counted.
    """
    paths = {f"{way}, {cores or 'all'}": child for (way, cores), child in children.items()}
    peaks = {name: child.ask("measure", files, memory=True) for name, child in paths.items()}
    jobs = [(name, child, "measure") for name, child in paths.items()]
    if case.format == "JPEG":
        jobs.append(("floor, all", children["ours", None], "decode"))
    found: dict[str, list[dict[str, float]]] = {name: [] for name, _, _ in jobs}
    for number in range(rounds):
        for name, child, job in jobs if number % 2 else reversed(jobs):
            found[name].append(child.ask(job, files))
    medians = {
        name: {
            key: statistics.median(figures[key] for figures in answers) / len(files)
            for key in answers[0]
        }
        for name, answers in found.items()
    }
    for name, figures in peaks.items():
        medians[name]["peak"] = figures["peak"]
    return medians


def _result(measured: Mapping[Case, Figures], sent: Mapping[Way, int]) -> dict[str, float]:
    def ratio(case: Case, key: str, over: str, under: str) -> float:
        return measured[case][over][key] / measured[case][under][key]

    ours, stock = "ours, all", "stock, all"
    return {
        "cpu_ratio_1080p": ratio(MIDDLE, "cpu", stock, ours),
        "cpu_ratio_12mp": ratio(LARGE, "cpu", stock, ours),
        "floor_ratio_1080p": ratio(MIDDLE, "cpu", ours, "floor, all"),
        "rate_ratio_1080p": ratio(MIDDLE, "wall", stock, ours),
        "scaling_all_cores": ratio(MIDDLE, "wall", "ours, 1", ours),
        "bytes_ratio": sent["ours"] / sent["stock"],
    }


def _table(measured: Mapping[Case, Figures]) -> str:
    """For a terminal."""
    head = ("", "cores", "CPU ms", "wall ms", "images/s", "MB sent", "peak MB")
    lines = ["{:<24}{:>6}{:>10}{:>10}{:>12}{:>10}{:>10}".format(*head)]
    for case, figures in measured.items():
        lines.append(case.name)
        for name, one in figures.items():
            way, _, cores = name.partition(", ")
            memory = [f"{one[key] / 1e6:>10.1f}" if key in one else "" for key in ("bytes", "peak")]
            lines.append(
                f"  {way:<22}{cores:>6}{1e3 * one['cpu']:>10.1f}{1e3 * one['wall']:>10.1f}"
                f"{1 / one['wall']:>12.1f}{''.join(memory)}"
            )
    return "\n".join(lines)
