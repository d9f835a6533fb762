"""The kit's command, which `saccade bench kernels` is too.

Only its dry run has run so far: no time of a kernel on a GPU is known (not measured).
"""

import argparse
import sys
import time

import torch

from .. import cache, dispatch, full_attention
from . import report, suite
from .arguments import KEPT_REPORT
from .cases.case import Place
from .contenders import vllm_baseline
from .contenders.times import DATA_SHEETS, Roof, measure_roof
from .environment import device_name, git_revision, hardware, is_interpreted, versions
from .findings import Examiner, Findings


def run(args: argparse.Namespace) -> int:
    """Run the kit; returns the exit code."""
    began = time.monotonic()
    deadline = began + 60 * args.minutes
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    full_attention.provide_flash_attention(vllm_baseline.find_flash_attention)
    try:
        _refuse_wrong_use(args.dry_run, device)
        choices = {name: dispatch.select_backend(name, device.type) for name in dispatch.OPERATIONS}
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    backends = {name: f"{choice.backend}: {choice.reason}" for name, choice in choices.items()}
    backends["vLLM"] = vllm_baseline.state()
    roofs = _roofs(device, args)
    where, numbers, revision = hardware(device), versions(), git_revision()
    print(report.heading(where, numbers, revision, roofs, backends), flush=True)
    findings = _examine(device, args, deadline)
    roof = Roof(
        next((roof.bandwidth for roof in roofs.values() if roof.bandwidth), None),
        next((roof.flops for roof in roofs.values() if roof.flops), None),
    )
    result = _conclude(findings, roof, args)
    file = args.json
    if file is None and not args.dry_run:
        try:
            file = cache.make_cache_folder() / KEPT_REPORT
        except OSError as error:
            print(f"the report is not kept: {error}", file=sys.stderr)
    if file is not None:
        rows = [] if args.dry_run or findings.problems else findings.rows
        more = {
            "seconds": time.monotonic() - began,
            "result": result if not findings.problems else None,
            "arguments": {
                name: getattr(args, name)
                for name in ("dry_run", "graph", "bandwidth", "tflops", "minutes")
            },
            "hardware": where,
            "versions": numbers,
            "git_revision": revision,
            "roofs": {source: vars(each) for source, each in roofs.items()},
            "backends": backends,
            "cases": [report.flat(row, roof) for row in rows],
        }
        report.write_json(file, findings, more)
    return 1 if findings.problems else 0


def _refuse_wrong_use(dry_run: bool, device: torch.device) -> None:
    """Raises ValueError: what is wrong, and the mend."""
    if dry_run:
        return
    if device.type == "cpu":
        raise ValueError(
            "torch finds no GPU here; --dry-run runs the same code on tiny cases without one"
        )
    if is_interpreted():
        raise ValueError("TRITON_INTERPRET=1 has kernels interpreted: unset it, or add --dry-run")


def _roofs(device: torch.device, args: argparse.Namespace) -> dict[str, Roof]:
    """By where they are from, the one that counts first."""
    roofs: dict[str, Roof] = {}
    if args.bandwidth or args.tflops:
        roofs["lines"] = Roof(args.bandwidth, args.tflops)
    if (sheet := DATA_SHEETS.get(device_name(device))) is not None:
        roofs["its data sheet"] = sheet
    if device.type == "cuda" and not args.dry_run:
        roofs["measured: a copy, a product of matrices"] = measure_roof(device)
    return roofs


def _examine(device: torch.device, args: argparse.Namespace, deadline: float) -> Findings:
    edges, scale = suite.PUBLISHED, suite.TIMED
    if args.dry_run:
        edges, scale = suite.TINY, suite.TIMED_TINY
    dtypes = suite.formats(device, is_interpreted())
    examiner = Examiner(device, args.graph, deadline)
    with torch.inference_mode(), vllm_baseline.eager_vllm():
        return examiner.run(
            suite.checks(edges, device, dtypes), suite.timed(scale, Place(device, dtypes[0]))
        )


def _conclude(findings: Findings, roof: Roof, args: argparse.Namespace) -> dict[str, float]:
    """Print the end; returns the numbers of the last line."""
    result: dict[str, float] = {"correct": 1, "cases": len(findings.checks)}
    if findings.problems:
        print(report.problem_list(findings.problems))
        result["correct"] = 0
    elif args.dry_run:
        # All of the code has run; its times say nothing of a GPU.
        print("dry run: no figures")
        result = {"dry_run": 1, **result}
    else:
        print(report.table(findings.rows, roof, args.graph))
        result |= report.result_of(findings.rows, roof)
    if findings.cut and not findings.problems:
        print(report.cut_list(findings.cut, args.minutes))
        result["cut"] = len(findings.cut)
    print(report.result_line(result))
    return result
