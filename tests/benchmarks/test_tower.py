"""`saccade bench tower` as a user runs it, on a small tower; its gate on results that are wrong."""

import argparse
import json
from pathlib import Path

import pytest
import torch

from saccade.benchmarks import cli
from saccade.benchmarks.tower import command
from saccade.benchmarks.tower.correctness import judge
from saccade.benchmarks.tower.process import Findings
from saccade.kernels import reference
from saccade.kernels.check.cases.truth import exact_attention, relative_error
from saccade.kernels.cpu import extension

SMALL = ("--layers=2", "--patches=64", "--rounds=1")


def bench(*given: str) -> int:
    parser = argparse.ArgumentParser(prog="saccade bench")
    cli.add_arguments(parser)
    return cli.run(parser.parse_args(["tower", *given]))


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-5), ("bfloat16", 0.02)])
def test_a_run_ends_with_figures(dtype: str, error: float, tmp_path: Path, capsys):
    report = tmp_path / "report.json"
    assert bench(*SMALL, f"--dtype={dtype}", f"--json={report}") == 0
    output = capsys.readouterr().out
    assert "window_attention  cpu: the fastest on cpu" in output
    assert f"cpu backends      {extension.load().reason}\n" in output
    name, *values = output.splitlines()[-1].split()
    figures = {key: float(value) for key, value in (one.split("=") for one in values)}
    assert name == "RESULT"
    assert list(figures) == ["attention_ratio_64", "tower_ratio_64", "floor_ratio_64"]
    assert all(value > 0 for value in figures.values())
    written = json.loads(report.read_text())
    assert written["result"]["tower_ratio_64"] == pytest.approx(figures["tower_ratio_64"], abs=1e-3)
    assert written["seconds"]["64"].keys() == {"window attention", "full attention", "tower"}
    compared = {
        f"{size} patches, {what}"
        for size in ("18 x 26", "8 x 8")
        for what in ("tower of 2 layers", "window attention", "full attention")
    }
    assert written["errors"].keys() == compared
    assert all(errors["ours"] < error for errors in written["errors"].values())


OTHER_NORMS = """
import sys
from saccade.benchmarks.tower import process
from saccade.model.tower import vision

vision.NORM_EPS = 1e-3
process.main(sys.argv[1])
"""


def test_no_figures_while_our_tower_computes_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setattr(command, "_PROCESS", ("-c", OTHER_NORMS))
    report = tmp_path / "report.json"
    assert bench(*SMALL, "--dtype=float32", f"--json={report}") == 1
    first, *problems, last = capsys.readouterr().out.splitlines()
    assert (first, last) == ("no figures:", "RESULT correct=0")
    for size, problem in zip(("18 x 26", "8 x 8"), problems, strict=True):
        assert problem.startswith(f"  {size} patches, tower of 2 layers: the error of ours is ")
    written = json.loads(report.read_text())
    assert written["result"] is None
    assert written["seconds"] == {}


def test_no_figures_without_the_process(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(command, "_PROCESS", ("-c", "raise SystemExit(3)"))
    assert bench(*SMALL) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.endswith("error: the process of the towers ended with 3\n")


def samples(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(96, 64, generator=generator, dtype=torch.float64)
    return truth, truth.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounded_results_pass(dtype: torch.dtype):
    truth, rounded = samples(dtype)
    errors, problems = judge("it", rounded, rounded, truth)
    assert problems == []
    assert 0 < errors["ours"] == errors["stock"] < torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("wrong", [torch.nan, 1.0])
def test_one_wrong_number_of_six_thousand_is_found(dtype: torch.dtype, wrong: float):
    truth, rounded = samples(dtype)
    ours = rounded.clone()
    ours[17, 3] += wrong
    assert judge("it", ours, rounded, truth)[1][0].startswith("it: ")
    assert judge("it", rounded, rounded, truth)[1] == []


def test_a_little_worse_than_vllm_is_found():
    truth, rounded = samples(torch.bfloat16)
    worse = (rounded.double() + 1.4 * (rounded.double() - truth)).bfloat16()
    _, problems = judge("it", worse, rounded, truth)
    assert "above 1.25 times vLLM's" in problems[0]


def test_a_wrong_measure_is_none():
    """Where vLLM's own result is far from the truth, the comparison itself is wrong."""
    truth, rounded = samples(torch.bfloat16)
    _, problems = judge("it", rounded, -rounded, truth)
    assert problems == ["it: the error of stock is 2, above 0.1"]


def test_exact_attention_is_attention():
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(300, 3, 2, 20, generator=generator)
    angles = torch.randn(300, 10, generator=generator)
    cu_seqlens = [0, 5, 290, 300]
    found = exact_attention(qkv, angles.cos(), angles.sin(), cu_seqlens)
    other = reference.full_attention(
        qkv, angles.cos(), angles.sin(), torch.tensor(cu_seqlens, dtype=torch.int32), 285
    )
    assert found.dtype == torch.float64
    assert relative_error(other, found) < 1e-6


def test_ratios_are_vllms_time_over_ours():
    part = {"stock": 3.0, "ours": 2.0}
    seconds = {
        "window attention": {"stock": 2.0, "ours": 1.0},
        "full attention": {"stock": 10.0, "ours": 5.0},
        "tower": {**part, "floor": 1.6},
    }
    findings = Findings("cpu", 2, {}, "", seconds={"1024": seconds, "4096": seconds})
    assert command.result_of(findings) == {
        "attention_ratio_1024": (28 * 2 + 4 * 10) / (28 * 1 + 4 * 5),
        "attention_ratio_4096": 2.0,
        "tower_ratio_1024": 1.5,
        "tower_ratio_4096": 1.5,
        "floor_ratio_4096": 1.25,
    }


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--patches=1000", "1000 is not the square of an even number"),
        ("--patches=25", "25 is not the square of an even number"),
        ("--layers=1", "1 is not from 2 to 32"),
        ("--layers=x", "invalid int value: 'x'"),
        ("--dtype=float16", "invalid choice: 'float16'"),
    ],
)
def test_a_wrong_flag_is_refused(flag: str, said: str, capsys):
    with pytest.raises(SystemExit) as stopped:
        bench(flag)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
