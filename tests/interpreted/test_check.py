"""The GPU kit's checks: right kernels pass, and those that touch what they should not are found."""

import pytest
import torch

from saccade.kernels import dispatch
from saccade.kernels.check.cases.attention import (
    TRITON_ATTENTION,
    AttentionCase,
    RotationCase,
    Segments,
)
from saccade.kernels.check.cases.case import Place
from saccade.kernels.check.cases.pointwise import (
    INTERLEAVED,
    MergeInputCase,
    MRopeCase,
    PatchInputCase,
)

DTYPES = [torch.bfloat16, torch.float16, torch.float32]
RUNS = Segments([5, 0, 20], heads=2, before=2, after=3)


@pytest.fixture(autouse=True)
def triton_runs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SACCADE_KERNELS", "triton")


def make(operation: str, dtype: torch.dtype = torch.float16):
    place = Place(torch.device("cpu"), dtype)
    cases = {
        "window_attention": lambda: AttentionCase("window_attention", RUNS, place),
        "full_attention": lambda: AttentionCase(TRITON_ATTENTION, RUNS, place),
        "rotate_packed": lambda: RotationCase(3, 2, 80, place),
        "mrope": lambda: MRopeCase(3, 5, 3, place, INTERLEAVED),
        "patch_input": lambda: PatchInputCase([(1, 2, 4), (1, 4, 2)], place),
        "merge_input": lambda: MergeInputCase([(1, 2, 4)], place, gap=8),
    }
    return cases[operation]()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "operation",
    ["window_attention", "full_attention", "rotate_packed", "mrope", "patch_input", "merge_input"],
)
def test_kernels_are_right(operation, dtype):
    with torch.inference_mode():
        verdict = make(operation, dtype).check()
    assert not verdict.problems
    assert verdict.error < 4 * torch.finfo(dtype).eps


def beside(tensor: torch.Tensor, offset: int) -> torch.Tensor:
    """One number of the memory before (-1) or after (0) a tensor."""
    place = tensor.storage_offset() + (offset if offset < 0 else tensor.numel())
    return tensor.as_strided((1,), (1,), place)


def written_before(found, *given):
    beside(found, -1).fill_(1)


def written_after(found, *given):
    beside(found, 0).fill_(1)


def row_forgotten(found, *given):
    found[4] = torch.nan


def row_of_no_segment(found, *given):
    found[1] = 0


def values_written(found, qkv, *given):
    qkv[0, 2] = 0


def keys_written(found, qkv, *given):
    qkv[3, 1] = 0


def angles_written(found, qkv, cos, *given):
    cos[3] = 0


def argument_written(found, x, *given):
    x[0, 0] += 1


def argument_overrun(found, x, *given):
    beside(x, -1).fill_(0)


def row_overrun(found, x, *given):
    x.as_strided((1,), (1,), x.storage_offset() + x.shape[1]).fill_(0)


@pytest.mark.parametrize(
    ("operation", "mistake", "problem"),
    [
        ("window_attention", written_before, "memory around the result"),
        ("window_attention", written_after, "memory around the result"),
        ("window_attention", row_forgotten, "largest error is nan"),
        ("window_attention", row_of_no_segment, "rows of no segment"),
        ("window_attention", values_written, "qkv was written"),
        ("window_attention", keys_written, "qkv was written"),
        ("window_attention", angles_written, "cos was written"),
        ("patch_input", written_after, "memory around the result"),
        ("patch_input", row_forgotten, "not exact"),
        ("patch_input", argument_overrun, "memory around pixels"),
        ("merge_input", written_before, "memory around the result"),
        ("merge_input", argument_written, "patches were written"),
        ("merge_input", row_overrun, "patches were written"),
        ("mrope", argument_overrun, "memory around queries"),
        ("mrope", row_overrun, "not exact"),
    ],
)
def test_what_a_kernel_must_not_touch(operation, mistake, problem, monkeypatch: pytest.MonkeyPatch):
    right = dispatch.implementation

    def implementation(name, device_type):
        def run(*given):
            found = right(name, device_type)(*given)
            mistake(found, *given)
            return found

        return run

    monkeypatch.setattr(dispatch, "implementation", implementation)
    with torch.inference_mode():
        verdict = make(operation).check()
    assert any(problem in lines for lines in verdict.problems), verdict.problems


def test_a_result_from_elsewhere_is_not_taken_for_checked(monkeypatch: pytest.MonkeyPatch):
    right = dispatch.implementation
    monkeypatch.setattr(
        dispatch, "implementation", lambda *names: lambda *given: right(*names)(*given).clone()
    )
    with torch.inference_mode():
        verdict = make("window_attention").check()
    assert "the check is blind: it did not see the result's allocation" in verdict.problems
