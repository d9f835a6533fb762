"""`saccade bench kernels`: each kernel on a GPU, beside what vLLM does itself.

Only its dry run has run so far: no time of a kernel on a GPU is known (not measured).
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saccade.benchmarks.environment import environment
from saccade.benchmarks.report import conclude, say

if TYPE_CHECKING:
    import torch

    from saccade.benchmarks.kernel_times import Times

_EPILOG = """examples:
  saccade bench kernels
  saccade bench kernels --json kernels.json
  saccade bench kernels --graph --bandwidth 2039
  saccade bench kernels --dry-run
  TRITON_INTERPRET=1 SACCADE_KERNELS=triton saccade bench kernels --dry-run

Every case is first held against float64: attention may err 1.25 times as much as vLLM's own; mrope
and patch_input must be exact, merge_input rounded once. If one is wrong, no figures are printed.

Times are GPU times of single calls with caches emptied before each; where the GPU waits for the
host to launch, that counts. With --graph, calls are replayed from a CUDA graph: no waiting, but
warm caches, so that small cases move fewer bytes than the formula says.

roofline    the bytes that the operation must move (kernels/traffic.py) at the memory's bandwidth,
            in per cent of the time; full attention is bound by arithmetic and far from it
mrope       vLLM's in eager mode; where Inductor compiles the model it fuses its own, and ours has
            next to nothing to gain
patch_input vLLM's image processor, told to run on the GPU; by default it is on the CPU
merge_input vLLM's norm, and its reordering of tokens, which it does after the merger's products

The last line is RESULT: for each operation vLLM's median time over ours, for the largest of its
cases (16,384 patches; 4,096 tokens of the 72B model).

A dry run does the same with tiny cases and prints no figures; without a GPU it takes the forms that
run on the CPU. Triton's interpreter computes wrongly in bfloat16, so under it cases are in float16.
"""


def _bandwidth(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no bandwidth in GB/s")
    return number


_bandwidth.__name__ = "float"  # argparse names it in "invalid float value"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the benchmark's flags."""
    parser.description = "Measures each kernel on a GPU, beside what vLLM does itself."
    parser.epilog = _EPILOG
    parser.add_argument(
        "--dry-run", action="store_true", help="tiny cases, no figures; needs no GPU"
    )
    parser.add_argument("--graph", action="store_true", help="time CUDA graphs of calls")
    parser.add_argument(
        "--bandwidth",
        type=_bandwidth,
        metavar="GB/s",
        help="of the GPU's memory (default: its data sheet's, if the GPU is known)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to this file")


def run(args: argparse.Namespace) -> int:
    """Run the benchmark; returns the exit code."""
    from saccade.kernels.dispatch import OPERATIONS, choose

    device = _device()
    if wrong := _wrong_use(args.dry_run, device):
        print(f"saccade bench: error: {wrong}", file=sys.stderr)
        return 2
    try:
        forms = {name: choose(name, device.type) for name in OPERATIONS}
    except ValueError as error:
        print(f"saccade bench: error: {error}", file=sys.stderr)
        return 2
    setting = Setting.of(device, args.bandwidth, args.graph)
    print(_heading(setting, forms))
    findings = _compare(setting, args.dry_run)
    result: dict[str, float] | None = None
    text, rows = "", findings.rows
    if not findings.problems:
        result = result_of(rows)
        text = table(rows, setting)
    if args.dry_run:
        # All of the code has run; its times say nothing of a GPU.
        text, rows = "dry run: no figures", []
        if result is not None:
            result = {"dry_run": 1, "correct": 1, "cases": len(findings.errors)}
    more = {
        "arguments": {"dry_run": args.dry_run, "graph": args.graph, "bandwidth": args.bandwidth},
        "setting": setting.flat(),
        "forms": forms,
        "errors": findings.errors,
        "cases": [] if findings.problems else [row.flat(setting.bandwidth) for row in rows],
    }
    return conclude("kernels", result, findings.problems, text, args.json, more)


def _device() -> "torch.device":
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _wrong_use(dry_run: bool, device: "torch.device") -> str | None:
    """What is wrong, and the mend."""
    if dry_run:
        return None
    if device.type == "cpu":
        return "torch finds no GPU here; --dry-run runs the same code on tiny cases without one"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return "TRITON_INTERPRET=1 has kernels interpreted: unset it, or add --dry-run"
    return None


@dataclass(frozen=True)
class Setting:
    """Where and how is measured.

    Attributes:
        device_name: As torch names it.
        bandwidth: GB/s of its memory; None if unknown.
        graph: Are CUDA graphs timed?
    """

    device: "torch.device"
    dtype: "torch.dtype"
    device_name: str
    bandwidth: float | None
    graph: bool

    @staticmethod
    def of(device: "torch.device", bandwidth: float | None, graph: bool) -> "Setting":
        import torch

        from saccade.benchmarks.kernel_times import BANDWIDTHS

        interpreted = os.environ.get("TRITON_INTERPRET") == "1"
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        return Setting(
            device,
            torch.float16 if interpreted else torch.bfloat16,
            name,
            bandwidth or BANDWIDTHS.get(name),
            graph,
        )

    def flat(self) -> dict[str, object]:
        """For JSON."""
        return {
            "device": self.device_name,
            "dtype": str(self.dtype).removeprefix("torch."),
            "bandwidth": self.bandwidth,
            "graph": self.graph,
        }


@dataclass(frozen=True)
class Row:
    """What was measured of one case."""

    operation: str
    size: str
    times: "Mapping[str, Times]"
    bytes: Mapping[str, int | None]

    @property
    def ratio(self) -> float:
        """vLLM's time over ours."""
        return self.times["stock"].median / self.times["ours"].median

    def share(self, way: str, bandwidth: float | None) -> float | None:
        """Per cent of the roofline."""
        from saccade.benchmarks.kernel_times import roofline

        return roofline(self.bytes[way], self.times[way].median, bandwidth)

    def flat(self, bandwidth: float | None) -> dict[str, object]:
        """For JSON."""
        sides = {
            way: {
                "microseconds": dataclasses.asdict(times),
                "bytes": self.bytes[way],
                "roofline_percent": self.share(way, bandwidth),
            }
            for way, times in self.times.items()
        }
        return {"operation": self.operation, "size": self.size, "ratio": self.ratio, **sides}


@dataclass
class Findings:
    """Of all cases.

    Attributes:
        rows: Without those after the first problem.
        errors: Of each side, by case.
    """

    rows: list[Row]
    errors: dict[str, Mapping[str, float]]
    problems: list[str]


def _compare(setting: Setting, dry_run: bool) -> Findings:
    import torch

    from saccade.benchmarks.kernel_cases import PUBLISHED, TINY, Place, all_cases
    from saccade.benchmarks.kernel_stock import eager_vllm
    from saccade.benchmarks.kernel_times import measure

    findings = Findings([], {}, [])
    place = Place(setting.device, setting.dtype)
    with torch.inference_mode(), eager_vllm():
        for make in all_cases(TINY if dry_run else PUBLISHED, place):
            case = make()
            name = f"{case.operation}, {case.size}"
            say(name)
            verdict = case.check()
            findings.errors[name] = verdict.errors
            findings.problems += [f"{name}: {problem}" for problem in verdict.problems]
            if not findings.problems:
                times = measure(case.runs, setting.device, setting.graph)
                findings.rows.append(Row(case.operation, case.size, times, case.bytes))
    return findings


def result_of(rows: Sequence[Row]) -> dict[str, float]:
    """The numbers of the last line: each operation's last case is its largest."""
    return {row.operation: row.ratio for row in rows}


def _heading(setting: Setting, forms: Mapping[str, Any]) -> str:
    known = environment()
    versions = known["versions"]
    assert isinstance(versions, dict)
    flat = setting.flat()
    lines = [
        f"device      {setting.device_name}, memory {_plain(setting.bandwidth, ' GB/s')}",
        f"numbers     {flat['dtype']}",
        f"revision    {known['git_revision']}",
        "versions    " + ", ".join(f"{name} {number}" for name, number in versions.items()),
    ]
    lines += [f"{name:<18}{choice.form}: {choice.reason}" for name, choice in forms.items()]
    return "\n".join(lines)


def table(rows: Sequence[Row], setting: Setting) -> str:
    """For a terminal."""
    how = "CUDA graphs, warm caches" if setting.graph else "single calls, empty caches"
    lines = [
        f"microseconds of {how}: median (p20 to p80), per cent of roofline",
        f"{'':<54}{'vLLM':>33}{'ours':>33}{'ratio':>8}",
    ]
    operation = ""
    for row in rows:
        if row.operation != operation:
            lines.append(operation := row.operation)
        cells = ""
        for way in ("stock", "ours"):
            times, share = row.times[way], row.share(way, setting.bandwidth)
            spread = f"({times.p20:.1f} to {times.p80:.1f})"
            cells += f"{times.median:>8.1f} {spread:>16}{_plain(share):>8}"
        lines.append(f"  {row.size:<52}{cells}{row.ratio:>8.2f}")
    return "\n".join(lines)


def _plain(number: float | None, unit: str = "") -> str:
    return "unknown" if number is None else f"{number:.0f}{unit}"
