"""`saccade bench kernels` without a GPU: its dry run, and that it refuses wrong kernels."""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from saccade.benchmarks import cli, kernel_cases, kernels
from saccade.benchmarks.kernel_gate import Verdict
from saccade.benchmarks.kernel_times import BANDWIDTHS, Times, roofline
from saccade.kernels import dispatch

OPERATIONS = ("window_attention", "full_attention", "mrope", "patch_input", "merge_input")
DRY_RESULT = "RESULT dry_run=1 correct=1 cases=12"
H100 = "NVIDIA H100 80GB HBM3"


def bench(*given: object) -> int:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.run(parser.parse_args(["kernels", *map(str, given)]))


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_a_dry_run_checks_every_operation_and_prints_no_figures(tmp_path: Path, capsys):
    report = tmp_path / "report.json"
    assert bench("--dry-run", "--json", report) == 0
    *before, told, last = capsys.readouterr().out.splitlines()
    assert last == DRY_RESULT
    assert told == "dry run: no figures"
    assert not any("microseconds" in line for line in before)
    assert [line.split()[0] for line in before if line.split()[0] in OPERATIONS] == [*OPERATIONS]
    written = json.loads(report.read_text())
    assert written["cases"] == []
    assert written["result"] == {"dry_run": 1, "correct": 1, "cases": 12}
    assert {name.partition(",")[0] for name in written["errors"]} == set(OPERATIONS)
    assert all(error["ours"] < 0.01 for error in written["errors"].values())
    assert written["versions"]["torch"]


def test_a_dry_run_of_the_interpreted_kernels():
    environment = {**os.environ, "TRITON_INTERPRET": "1", "SACCADE_KERNELS": "triton"}
    command = [sys.executable, "-m", "saccade.server.cli", "bench", "kernels", "--dry-run"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[-1] == DRY_RESULT
    assert sum("triton: SACCADE_KERNELS=triton" in line for line in lines) == len(OPERATIONS)
    assert "numbers     float16" in lines


def turned_back(run):
    return lambda qkv, cos, sin, *rest: run(qkv, cos, -sin, *rest)


def swapped_sections(run):
    return lambda *most: run(*most[:5], most[5][::-1], most[6])


def one_wrong_number(run):
    def wrong(*given):
        found = run(*given)
        found[-1, -1] += 0.25
        return found

    return wrong


def no_numbers(run):
    return lambda *given: torch.full_like(run(*given), torch.nan)


@pytest.mark.parametrize(
    ("operation", "mistake"),
    [
        ("window_attention", turned_back),
        ("window_attention", one_wrong_number),
        ("window_attention", no_numbers),
        ("full_attention", turned_back),
        ("mrope", swapped_sections),
        ("patch_input", one_wrong_number),
        ("merge_input", one_wrong_number),
        ("merge_input", no_numbers),
    ],
)
def test_no_figures_while_a_kernel_is_wrong(
    operation, mistake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    right = dispatch.implementation

    def implementation(name, device_type):
        run = right(name, device_type)
        return mistake(run) if name == operation else run

    monkeypatch.setattr(dispatch, "implementation", implementation)
    monkeypatch.setattr(kernels, "_wrong_use", lambda *_: None)
    monkeypatch.setattr(kernel_cases, "PUBLISHED", kernel_cases.TINY)
    report = tmp_path / "report.json"
    for dry in ([], ["--dry-run"]):
        assert bench(*dry, "--json", report) == 1
        output = capsys.readouterr().out
        assert output.splitlines()[-1] == "RESULT correct=0"
        assert f"  {operation}, " in output
        assert "microseconds" not in output
        written = json.loads(report.read_text())
        assert written["result"] is None
        assert written["cases"] == []
        assert all(problem.startswith(operation) for problem in written["problems"])


def test_figures_as_a_gpu_would_give_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    """All of the real run but its sizes and its clock."""
    monkeypatch.setattr(kernels, "_wrong_use", lambda *_: None)
    monkeypatch.setattr(kernel_cases, "PUBLISHED", kernel_cases.TINY)
    report = tmp_path / "report.json"
    assert bench("--bandwidth", 1000, "--json", report) == 0
    output = capsys.readouterr().out
    assert "memory 1000 GB/s" in output
    assert "microseconds of single calls" in output
    last = output.splitlines()[-1]
    assert [part.partition("=")[0] for part in last.split()[1:]] == [*OPERATIONS]
    written = json.loads(report.read_text())
    assert len(written["cases"]) == 12
    case = written["cases"][0]
    assert case["operation"] == "window_attention"
    assert case["ours"]["bytes"] == 20 * 10560
    assert case["stock"]["bytes"] == 20 * 30880
    for way in ("ours", "stock"):
        times = case[way]["microseconds"]
        assert times["p20"] <= times["median"] <= times["p80"]
        moved_in_a_microsecond = 1000 * 1000  # bytes
        share = 100 * case[way]["bytes"] / moved_in_a_microsecond / times["median"]
        assert case[way]["roofline_percent"] == pytest.approx(share)
    assert case["ratio"] == pytest.approx(
        case["stock"]["microseconds"]["median"] / case["ours"]["microseconds"]["median"]
    )


def test_without_a_gpu_the_mend_is_one_line(capsys):
    assert bench() == 2
    error = capsys.readouterr().err.strip()
    assert "no GPU" in error
    assert "--dry-run" in error
    assert "\n" not in error


def test_interpreted_kernels_are_not_measured(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert bench() == 2
    assert "TRITON_INTERPRET" in capsys.readouterr().err


def test_an_unknown_form_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setenv("SACCADE_KERNELS", "fast")
    assert bench("--dry-run") == 2
    assert "SACCADE_KERNELS is 'fast'" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["0", "-1", "inf", "nan", "much"])
def test_a_wrong_bandwidth_is_named(wrong, capsys):
    with pytest.raises(SystemExit) as stopped:
        bench(f"--bandwidth={wrong}")
    assert stopped.value.code == 2
    assert "--bandwidth" in capsys.readouterr().err


def test_roofline():
    assert roofline(3352 * 10**9, 1e6, BANDWIDTHS[H100]) == pytest.approx(100)
    assert roofline(10**6, 2.0, 1000) == pytest.approx(50)
    assert roofline(None, 2.0, 1000) is None
    assert roofline(10**6, 2.0, None) is None


def test_the_last_line_has_the_largest_case_of_each_operation():
    def row(operation, size, stock, ours):
        times = {"stock": Times(stock, 1, 9, 5), "ours": Times(ours, 1, 9, 5)}
        return kernels.Row(operation, size, times, {"stock": None, "ours": 10**6})

    rows = [row("mrope", "1", 9, 3), row("mrope", "2", 8, 4), row("merge_input", "1", 5, 4)]
    assert kernels.result_of(rows) == {"mrope": 2, "merge_input": 1.25}
    setting = kernels.Setting(torch.device("cpu"), torch.bfloat16, H100, 1000, True)
    shown = kernels.table(rows, setting)
    assert "CUDA graphs" in shown
    assert "unknown" in shown  # vLLM's bytes
    assert "33" in shown  # per cent: a megabyte at 1000 GB/s in 3 microseconds
    assert "33" not in kernels.table(rows, dataclasses.replace(setting, bandwidth=None))


class TestVerdicts:
    """Limits of the gate, at their edges."""

    truth = torch.linspace(1, 2, 1001, dtype=torch.double)

    def judged(self, ours, stock):
        verdict = Verdict()
        verdict.hold_beside(ours, stock, self.truth)
        return verdict.problems

    def test_attention(self):
        stock = self.truth + 0.01
        assert not self.judged(self.truth + 0.0124, stock)
        assert "error is" in self.judged(self.truth + 0.0126, stock)[0]
        ours = self.truth.clone()
        ours[500] += 0.0199
        assert not self.judged(ours, stock)
        ours[500] += 0.0002
        assert "largest error" in self.judged(ours, stock)[0]

    def test_both_wrong(self):
        assert len(self.judged(self.truth * 1.1, self.truth * 1.1)) == 2

    def test_one_rounding(self):
        for dtype in (torch.bfloat16, torch.float16):
            verdict = Verdict()
            rounded = self.truth.to(dtype)
            verdict.hold_one_rounding(rounded, self.truth)
            assert not verdict.problems
            verdict.hold_one_rounding(rounded * (1 + 2 * torch.finfo(dtype).eps), self.truth)
            assert verdict.problems
