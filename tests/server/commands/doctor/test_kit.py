"""What `saccade doctor` tells of the GPU kit's last run. The reports are as the kit writes them."""

from pathlib import Path

import pytest
import torch

from saccade.kernels.check.arguments import KEPT_REPORT
from saccade.kernels.check.findings import Findings
from saccade.kernels.check.report import write_json
from saccade.server.commands.doctor.kit import kit
from saccade.server.commands.doctor.problem import Problem, Severity

H100 = "NVIDIA H100 80GB HBM3"


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "saccade" / KEPT_REPORT


@pytest.fixture(params=[None, H100, "another"])
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """What torch finds here: what such a machine has cannot be had otherwise."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(request.param is not None))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: request.param)
    return request.param


def write(file: Path, findings: Findings, result: dict[str, float] | None) -> None:
    write_json(file, findings, {"result": result, "hardware": {"device": H100}})


def test_its_figures_in_a_line_for_each_operation(kept, gpu):
    figures = {"mrope_us": 12.34, "mrope_roofline": 81.2, "mrope_vs_vllm": 2.5}
    write(kept, Findings([("mrope, bfloat16", 0.001)] * 3), {"correct": 1, **figures})
    first, second, *more = kit()
    assert first == f"{H100}: 3 checks, all right"
    assert isinstance(second, str)
    shown = " ".join(second.split())
    assert shown == "mrope 12.3 us, 81 % of the roofline, 2.50 times vLLM's speed"
    assert bool(more) == (gpu == "another")
    for note in more:
        assert isinstance(note, Problem)
        assert note.severity is Severity.NOTE
        assert H100 in note.what


def test_a_kernel_that_was_wrong(kept):
    write(kept, Findings(problems=["mrope, bfloat16: off by 3", "another"]), None)
    (wrong,) = kit()
    assert isinstance(wrong, Problem)
    assert wrong.severity is Severity.WRONG
    assert "2 kernel checks failed, the first: mrope, bfloat16: off by 3" in wrong.what
    assert "SACCADE_KERNELS=reference" in wrong.mend


def test_without_a_report(kept, gpu):
    found = list(kit())
    assert len(found) == (gpu is not None)
    for note in found:
        assert isinstance(note, Problem)
        assert "saccade bench kernels" in note.mend


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"hardware": 3}', '{"result": "much"}'])
def test_a_report_that_cannot_be_read(kept, text):
    kept.parent.mkdir()
    kept.write_text(text)
    (note,) = kit()
    assert isinstance(note, Problem)
    assert "cannot be read" in note.what
