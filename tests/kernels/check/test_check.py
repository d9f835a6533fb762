"""The GPU kit without a GPU: its dry run, and that it gives no figures while a kernel is wrong."""

import argparse
import json
import time
from pathlib import Path

import pytest
import torch

from saccade.benchmarks import cli
from saccade.kernels import dispatch
from saccade.kernels.check import command, report, suite, traffic
from saccade.kernels.check.arguments import KEPT_REPORT
from saccade.kernels.check.cases.attention import AttentionCase, Segments
from saccade.kernels.check.cases.case import Contender, Place
from saccade.kernels.check.cases.layouts import MERGE, PATCH, WINDOW, lay_out
from saccade.kernels.check.contenders import pytorch
from saccade.kernels.check.contenders.times import DATA_SHEETS, Roof, Times, measure
from saccade.kernels.check.findings import Entry, Examiner, Lost, Row
from saccade.kernels.check.verdict import Verdict
from saccade.model.tower.windows import plan_pixels, plan_windows

OPERATIONS = ("window_attention", "full_attention", "mrope", "patch_input", "merge_input")
H100 = DATA_SHEETS["NVIDIA H100 80GB HBM3"]
# What PyTorch has for GPUs only.
GPU_ONLY = {"PyTorch SDPA cudnn", "PyTorch SDPA efficient", "PyTorch varlen_attn"}


def bench(*given: object) -> int:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.run(parser.parse_args(["kernels", *map(str, given)]))


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All of the real run but its sizes and its clock; no checks but those of what is timed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(command, "_refuse_wrong_use", lambda *_: None)
    monkeypatch.setattr(suite, "TIMED", suite.TIMED_TINY)
    monkeypatch.setattr(suite, "checks", lambda *_: iter(()))


def test_a_dry_run_checks_every_operation_and_prints_no_figures(tmp_path: Path, capsys):
    file = tmp_path / "deep" / "report.json"
    assert bench("--dry-run", "--json", file) == 0
    *before, told, last = capsys.readouterr().out.splitlines()
    assert told == "dry run: no figures"
    assert not any("microseconds" in line for line in before)
    assert [line.split()[0] for line in before if line.split()[0] in OPERATIONS] == [*OPERATIONS]
    written = json.loads(file.read_text())
    checks = written["checks"]
    assert last == f"RESULT dry_run=1 correct=1 cases={len(checks)}"
    for operation in OPERATIONS:
        for dtype in ("bfloat16", "float32"):
            mine = [check for check in checks if check["case"].startswith(f"{operation}, ")]
            assert any(check["case"].endswith(dtype) for check in mine)
    for check in checks:
        assert check["error"] < (0.1 if "size 5" in check["case"] else 0.01), check
    assert written["cases"] == []
    assert written["result"] == {"dry_run": 1, "correct": 1, "cases": len(checks)}
    assert written["versions"]["torch"]
    assert written["versions"]["triton"]
    assert written["git_revision"]
    assert "compared" in written["backends"]["vLLM"]


def test_figures_as_a_gpu_would_give_them(as_on_a_gpu, tmp_path: Path, capsys):
    file = tmp_path / "report.json"
    assert bench("--bandwidth", 1000, "--tflops", 0.5, "--json", file) == 0
    output = capsys.readouterr().out
    assert "1000 GB/s" in output
    assert "microseconds of single calls" in output
    written = json.loads(file.read_text())
    assert {case["operation"] for case in written["cases"]} == {*OPERATIONS}
    assert f"RESULT correct=1 cases={len(written['cases'])} " in output.splitlines()[-1]
    for case in written["cases"]:
        ways = case["contenders"]
        assert {name for name, way in ways.items() if way["note"]} <= GPU_ONLY
        ours = next(way for name, way in ways.items() if name.startswith("saccade"))
        assert any(name.startswith("vLLM") for name in ways)
        assert any(name.startswith("PyTorch") and name not in GPU_ONLY for name in ways)
        assert ours["ratio"] == 1
        for way in ways.values():
            if way["microseconds"]:
                took = way["microseconds"]
                assert took["p20"] <= took["median"] <= took["p80"]
                assert way["ratio"] == pytest.approx(
                    took["median"] / ours["microseconds"]["median"]
                )
                least = max(case["bytes"] / 1e6, case["flops"] / 0.5e6)  # microseconds
                assert way["roofline_percent"] == pytest.approx(100 * least / took["median"])
    case = next(case for case in written["cases"] if case["operation"] == "window_attention")
    assert case["bytes"] == 16 * 10560
    assert case["contenders"]["vLLM TORCH_SDPA"]["bytes"] == 16 * 30880
    for operation in OPERATIONS:
        for key in ("us", "roofline", "vs_vllm", "vs_pytorch"):
            assert written["result"][f"{operation}_{key}"] > 0


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


def no_result(run):
    def raises(*given):
        raise RuntimeError("could not generate a kernel")

    return raises


@pytest.mark.parametrize(
    ("operation", "mistake"),
    [
        ("window_attention", turned_back),
        ("window_attention", one_wrong_number),
        ("window_attention", no_numbers),
        ("full_attention", turned_back),
        ("full_attention", no_result),
        ("mrope", swapped_sections),
        ("patch_input", one_wrong_number),
        ("merge_input", one_wrong_number),
        ("merge_input", no_numbers),
    ],
)
def test_no_figures_while_a_kernel_is_wrong(
    operation, mistake, as_on_a_gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    right = dispatch.implementation

    def implementation(name, device_type):
        run = right(name, device_type)
        return mistake(run) if name == operation else run

    monkeypatch.setattr(dispatch, "implementation", implementation)
    monkeypatch.setattr(pytorch, "compiled", lambda function, _: function)  # it takes time
    file = tmp_path / "report.json"
    for dry in ([], ["--dry-run"]):
        assert bench(*dry, "--json", file) == 1
        output = capsys.readouterr().out
        assert output.splitlines()[-1].startswith("RESULT correct=0 cases=")
        assert f"  {operation}, " in output
        assert "microseconds" not in output
        written = json.loads(file.read_text())
        assert written["result"] is None
        assert written["cases"] == []
        assert all(problem.startswith(operation) for problem in written["problems"])


def test_a_registered_operation_that_fails_is_a_problem(
    as_on_a_gpu, monkeypatch: pytest.MonkeyPatch, capsys
):
    """Checks call what `dispatch` chooses; what the model calls is the registered operation."""
    from saccade.kernels import operations

    monkeypatch.setattr(operations, "merge_input", no_result(None))
    assert bench() == 1
    assert "as a registered operation: RuntimeError" in capsys.readouterr().out


def test_what_there_is_no_time_for_is_told(as_on_a_gpu, tmp_path: Path, capsys):
    file = tmp_path / "report.json"
    assert bench("--minutes", 1e-9, "--json", file) == 0
    # Without --json the report is kept for `saccade doctor`.
    kept = tmp_path / "cache" / "saccade" / KEPT_REPORT
    assert not kept.exists()
    assert bench("--minutes", 1e-9) == 0
    assert json.loads(kept.read_text())["cut"] == json.loads(file.read_text())["cut"]
    output = capsys.readouterr().out
    written = json.loads(file.read_text())
    assert "cut after 1e-09 minutes:\n  window_attention, 16 patches" in output
    assert output.splitlines()[-1] == f"RESULT correct=1 cases=0 cut={len(written['cut'])}"
    assert {name.split(",")[0] for name in written["cut"]} == {*OPERATIONS}


def test_no_figures_without_time_for_all_checks():
    cpu = torch.device("cpu")
    examiner = Examiner(cpu, False, time.monotonic() - 1)
    place = Place(cpu, torch.float32)
    findings = examiner.run(
        [lambda: AttentionCase("window_attention", Segments([1]), place)] * 3, []
    )
    assert findings.problems == ["no time for 3 checks: see --minutes"]


class TestContenders:
    """What is compared with us may fail, be wrong, or take its time."""

    def row(self, *others):
        class Given(AttentionCase):
            def others(self):
                return list(others)

        cpu = torch.device("cpu")
        examiner = Examiner(cpu, False, time.monotonic() + 60)
        make = lambda: Given("window_attention", Segments([5], 2), Place(cpu, torch.float32))  # noqa: E731
        with torch.inference_mode():
            findings = examiner.run([], [make])
        assert not findings.problems
        return findings, findings.rows[0]

    def test_that_fails(self):
        _, row = self.row(Contender("PyTorch one", no_result(None)))
        assert row.entries["PyTorch one"].note == "RuntimeError: could not generate a kernel"
        assert row.ours
        assert "could not generate" in report.table([row], Roof(), graph=True)
        assert "window_attention_vs_pytorch" not in report.result_of([row], H100)

    def test_that_computes_something_else(self):
        zeros = torch.zeros(5, 160)
        _, row = self.row(Contender("PyTorch zeros", lambda: lambda: zeros))
        assert row.entries["PyTorch zeros"].times is None
        assert "it computes something else" in row.entries["PyTorch zeros"].note

    def test_that_fails_while_it_is_timed(self):
        found = measure(
            {"it": no_result(None), "other": lambda: 1}, torch.device("cpu"), graph=False
        )
        assert isinstance(found["it"], RuntimeError)
        assert isinstance(found["other"], Times)

    def test_that_comes_too_late(self, monkeypatch: pytest.MonkeyPatch):
        seconds = [0.0]
        monkeypatch.setattr(time, "monotonic", lambda: seconds[0])

        def slow():
            seconds[0] += 61
            return lambda: None

        findings, row = self.row(Contender("slow", slow), Contender("late", slow))
        assert row.entries["slow"].times
        assert "late" not in row.entries
        assert [name.split(": ")[-1] for name in findings.cut] == ["late"]


def test_after_the_gpu_is_lost_nothing_else_runs(monkeypatch: pytest.MonkeyPatch):
    def lost(self):
        raise Lost("the GPU is lost")

    monkeypatch.setattr(Examiner, "_recover", lost)
    cpu = torch.device("cpu")
    examiner = Examiner(cpu, False, time.monotonic() + 60)
    wrong = lambda: AttentionCase("no_such", Segments([1]), Place(cpu, torch.float32))  # noqa: E731
    findings = examiner.run([wrong, wrong], [wrong])
    assert len(findings.problems) == 2
    assert findings.problems[1] == "the GPU is lost"


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


@pytest.mark.parametrize("flag", ["--bandwidth", "--tflops", "--minutes"])
@pytest.mark.parametrize("wrong", ["0", "-1", "inf", "nan", "much"])
def test_a_wrong_number_is_named(flag, wrong, capsys):
    with pytest.raises(SystemExit) as stopped:
        bench(f"{flag}={wrong}")
    assert stopped.value.code == 2
    assert flag in capsys.readouterr().err


def test_roofline():
    assert H100.microseconds(3352 * 10**9, 0) == pytest.approx(1e6)
    assert H100.microseconds(1, 989 * 10**12) == pytest.approx(1e6)  # the longer of both
    assert Roof(bandwidth=1000).microseconds(10**6, 0) == pytest.approx(1)
    assert Roof(bandwidth=1000).microseconds(10**6, 1) is None
    assert Roof().microseconds(1, 0) is None


def test_the_last_line_has_the_first_case_of_each_operation():
    def row(operation, size, **medians):
        entries = {name: Entry(Times(us, 1, 9, 5)) for name, us in medians.items()}
        return Row(operation, size, 10**6, 0, entries)

    rows = [
        row("mrope", "1", saccade=2, vLLM=9, PyTorch_a=8, PyTorch_b=5),
        row("mrope", "2", saccade=8, vLLM=4),
        row("merge_input", "1", saccade=4, PyTorch=5),
    ]
    roof = Roof(bandwidth=1000)
    assert report.result_of(rows, roof) == {
        "mrope_us": 2,
        "mrope_roofline": 50,
        "mrope_vs_vllm": 4.5,
        "mrope_vs_pytorch": 2.5,
        "merge_input_us": 4,
        "merge_input_roofline": 25,
        "merge_input_vs_pytorch": 1.25,
    }
    shown = report.table(rows, roof, graph=True)
    assert "CUDA graphs" in shown
    assert "50 %" in shown
    assert "50 %" not in report.table(rows, Roof(), graph=True)
    assert report.result_line({"correct": 1, "mrope_us": 2.0}) == "RESULT correct=1 mrope_us=2.000"


class TestVerdicts:
    """Limits, at their edges."""

    truth = torch.linspace(1, 2, 1001, dtype=torch.double)

    def judged(self, ours, rounded, wide):
        verdict = Verdict()
        ours, rounded, wide = (self.truth + error for error in (ours, rounded, wide))
        verdict.hold_attention(ours.float(), self.truth, rounded, wide)
        return verdict.problems

    def test_attention(self):
        assert not self.judged(0.0124, 0.02, 0.01)
        assert "mean error is" in self.judged(0.0126, 0.02, 0.01)[0]
        one = torch.zeros_like(self.truth)
        one[500] = 0.0249
        assert not self.judged(one, 0.02, 0.01)
        one[500] = 0.0251
        assert "largest error is" in self.judged(one, 0.02, 0.01)[0]

    def test_attention_far_off(self):
        assert "above 0.05" in self.judged(0.2, 0.2, 0.2)[0]

    def test_attention_in_float32(self):
        verdict = Verdict()
        verdict.hold_attention(self.truth + 3.9e-6, self.truth)
        assert not verdict.problems
        verdict.hold_attention(self.truth + 4.1e-6, self.truth)
        assert "largest error" in verdict.problems[0]

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_one_rounding(self, dtype):
        verdict = Verdict()
        rounded = self.truth.to(dtype)
        verdict.hold_one_rounding(rounded, self.truth)
        assert not verdict.problems
        verdict.hold_one_rounding(rounded * (1 + 2 * torch.finfo(dtype).eps), self.truth)
        assert verdict.problems

    def test_zeros(self):
        verdict = Verdict()
        zeros = torch.zeros(3, dtype=torch.double)
        verdict.hold_one_rounding(zeros.half(), zeros)
        assert not verdict.problems
        assert verdict.error == 0


GRIDS = [(1, 2, 2), (3, 10, 14), (1, 54, 74), (2, 16, 8)]


@pytest.mark.parametrize("frames", [1, 2])
def test_layouts_are_the_towers(frames):
    """What the kit lays out by loops is what the server plans."""
    layout = lay_out(GRIDS, frames)
    plan = plan_windows(GRIDS, MERGE, WINDOW)
    pixels = plan_pixels(GRIDS, plan.unit_order, MERGE, PATCH, frames)
    assert layout.unit_order.tolist() == plan.unit_order.tolist()
    assert Segments(layout.window_lengths).cu_seqlens == plan.window_cu_seqlens.tolist()
    assert Segments(layout.frame_lengths).cu_seqlens == plan.frame_cu_seqlens.tolist()
    for found, planned in zip(
        layout.places, (pixels.unit_offsets, pixels.row_bytes, pixels.frame_bytes), strict=True
    ):
        assert found.tolist() == planned.tolist()


def test_floating_point_operations_of_full_attention():
    case = AttentionCase(
        "full_attention", Segments([10, 20]), Place(torch.device("cpu"), torch.half)
    )
    assert case.flops == 4 * (10**2 + 20**2) * 16 * 80  # two products, a multiply and an add each
    assert case.bytes == 30 * (traffic.full_attention(16, 80) + traffic.rotate_packed(16, 80))
