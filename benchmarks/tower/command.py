"""`saccade bench tower`: the vision tower of published dimensions, beside stock vLLM's."""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from math import isqrt
from pathlib import Path

from saccade.benchmarks.common.arguments import default_dtype, positive
from saccade.benchmarks.common.report import conclude
from saccade.benchmarks.common.stock import NoStock, stock_environment
from saccade.benchmarks.tower.process import Findings, Job

_EPILOG = """examples:
  saccade bench tower
  saccade bench tower --dtype float32 --patches 1024 --rounds 5 --json tower.json
  saccade bench tower --layers 4

Both towers are in one process, on the device that vLLM runs on here, with equal random weights and
the 3B or 7B model's dimensions; they take turns, and figures are the shortest times of all rounds.
Before that, the first 8 layers of both must be right on a ragged picture and on every measured one:
compared with vLLM's in float32, and their attention, on what vLLM's own layers made, with float64.
In float32 errors must be below 1e-4; in bfloat16 ours may be 1.25 times vLLM's. If it is above, no
figures are printed.

attention   what is between the projections qkv and proj: rotary embedding and attention
tower       from the processor's bytes (ours: rasters; vLLM's: patches, each twice) to tokens
floor       the matrix products of our tower alone

The last line is RESULT, for every number of patches: attention_ratio_ (vLLM's time over ours, of
28 layers with windows and 4 without, however many --layers has) tower_ratio_ (vLLM's time over
ours); floor_ratio_ (our tower over the floor) for the largest.
"""
_PROCESS = ("-m", "saccade.benchmarks.tower.process")
_WINDOW_LAYERS, _FULL_LAYERS = 28, 4  # of a published tower


def _square(text: str) -> int:
    """A number of patches that fill a square image."""
    number = int(text)
    side = isqrt(max(number, 0))
    if number < 1 or side * side != number or side % 2:
        raise argparse.ArgumentTypeError(f"{text} is not the square of an even number")
    return number


def _layers(text: str) -> int:
    """Layers of a tower that has both kinds of attention."""
    number = int(text)
    if not 2 <= number <= _WINDOW_LAYERS + _FULL_LAYERS:
        raise argparse.ArgumentTypeError(f"{text} is not from 2 to 32")
    return number


_square.__name__ = _layers.__name__ = "int"  # argparse names it in "invalid int value"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the benchmark's flags."""
    parser.description = "Measures the vision tower, beside stock vLLM's."
    parser.epilog = _EPILOG
    parser.add_argument(
        "--model", choices=("3B", "7B"), default="3B", help="whose dimensions (default: 3B)"
    )
    parser.add_argument(
        "--dtype",
        choices=("bfloat16", "float32"),
        help="(default: float32 on a CPU that multiplies bfloat16 in software, else bfloat16)",
    )
    parser.add_argument("--layers", type=_layers, default=32, help="of the tower (default: 32)")
    parser.add_argument(
        "--patches",
        type=_square,
        nargs="+",
        default=[1024, 4096],
        metavar="N",
        help="of square images (default: 1024 4096)",
    )
    parser.add_argument("--rounds", type=positive(int), default=3, help="of each (default: 3)")
    parser.add_argument(
        "--threads", type=positive(int), help="of torch on the CPU (default: as torch decides)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to this file")


def run(args: argparse.Namespace) -> int:
    """Run the benchmark; returns the exit code."""
    args.dtype = args.dtype or default_dtype()
    arguments = {
        name: getattr(args, name)
        for name in ("model", "layers", "dtype", "patches", "rounds", "threads")
    }
    try:
        with tempfile.TemporaryDirectory() as place:
            folder = str(Path(place) / "checkpoints")
            job = Job(**arguments, folder=folder, file=str(Path(place) / "findings.json"))
            findings = _findings(job)
    except (NoStock, TowerError) as error:
        print(f"saccade bench: error: {error}", file=sys.stderr)
        return 1
    result = None if findings.problems else result_of(findings)
    text = "" if result is None else table(findings, args.layers)
    more = {"arguments": arguments, **dataclasses.asdict(findings)}
    return conclude("tower", result, findings.problems, text, args.json, more)


class TowerError(Exception):
    """The process of the towers failed."""


def _findings(job: Job) -> Findings:
    environment = {**stock_environment(), "VLLM_LOGGING_LEVEL": "ERROR"}
    command = [sys.executable, *_PROCESS, json.dumps(dataclasses.asdict(job))]
    # Our own command line, no shell.
    ended = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603
    if ended.returncode:
        raise TowerError(f"the process of the towers ended with {ended.returncode}")
    return Findings(**json.loads(Path(job.file).read_text(encoding="utf-8")))


Seconds = dict[str, dict[str, float]]


def _attention(seconds: Seconds, way: str) -> float:
    """Seconds of a whole tower's attention."""
    windows, full = seconds["window attention"][way], seconds["full attention"][way]
    return _WINDOW_LAYERS * windows + _FULL_LAYERS * full


def result_of(findings: Findings) -> dict[str, float]:
    """The numbers of the last line."""
    result = {}
    for patches, seconds in findings.seconds.items():
        stock, ours = (_attention(seconds, way) for way in ("stock", "ours"))
        result[f"attention_ratio_{patches}"] = stock / ours
    for patches, seconds in findings.seconds.items():
        tower = seconds["tower"]
        result[f"tower_ratio_{patches}"] = tower["stock"] / tower["ours"]
    largest = max(findings.seconds, key=int)
    tower = findings.seconds[largest]["tower"]
    return {**result, f"floor_ratio_{largest}": tower["ours"] / tower["floor"]}


def table(findings: Findings, layers: int) -> str:
    """For a terminal."""
    lines = [f"on {findings.device}, {findings.threads} threads"]
    lines += [f"  {name:<18}{backend}: {why}" for name, (backend, why) in findings.backends.items()]
    if findings.device == "cpu":
        lines.append(f"  {'cpu backends':<18}{findings.compiled}")
    lines += [f"{'error':<50}{'vLLM':>10}{'ours':>10}"]
    for name, errors in findings.errors.items():
        lines.append(f"  {name:<48}{errors['stock']:>10.2g}{errors['ours']:>10.2g}")
    lines += [f"{'ms':<40}{'vLLM':>10}{'ours':>10}{'ratio':>10}{'floor':>10}"]
    for patches, seconds in findings.seconds.items():
        lines.append(f"{patches} patches")
        rows = {f"{part}, one layer": seconds[part] for part in seconds if part != "tower"}
        rows["attention, 28 and 4 layers"] = {
            way: _attention(seconds, way) for way in ("stock", "ours")
        }
        rows[f"tower, {layers} layers"] = seconds["tower"]
        for name, row in rows.items():
            floor = f"{1e3 * row['floor']:>10.1f}" if "floor" in row else ""
            lines.append(
                f"  {name:<38}{1e3 * row['stock']:>10.1f}{1e3 * row['ours']:>10.1f}"
                f"{row['stock'] / row['ours']:>10.2f}{floor}"
            )
    return "\n".join(lines)
