"""Triton's backends prove themselves when a model is built, and give way where they fail."""

import logging

import pytest
import torch

from saccade.kernels import dispatch, reference
from saccade.kernels.operations import merge_input
from saccade.kernels.self_test import cases, faults, proof
from saccade.kernels.self_test.cases import FLOATS, Shapes

# Small: the interpreter takes milliseconds for each program.
SHAPES = Shapes(
    attention=((1, 80),), longest_window=16, mrope=((2, 1, 64, (5, 5, 22), False),), hidden=(160,)
)
NEXT = {"patch_input": "cpu", "merge_input": "reference"}


@pytest.fixture(autouse=True)
def untested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "_REASONS", {})
    monkeypatch.setenv(dispatch.KERNELS_ENV, "triton")


def backends() -> dict[str, str]:
    return {
        operation: dispatch.select_backend(operation, "cpu").backend
        for operation in dispatch.OPERATIONS
    }


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_all_are_right(dtype: torch.dtype) -> None:
    dispatch.prove_triton_kernels("cpu", dtype, SHAPES)
    assert proof.failures() == []
    assert len(proof._REASONS) == len(dispatch.OPERATIONS)
    assert set(backends().values()) == {"triton"}


@pytest.mark.parametrize("kind", ["raise", "wrong"])
@pytest.mark.parametrize("operation", dispatch.OPERATIONS)
def test_one_at_fault_gives_way(
    operation: str, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(faults.VARIABLE, f"{operation}:{kind}")
    dispatch.prove_triton_kernels("cpu", torch.float32, SHAPES)
    (failure,) = proof.failures()
    assert (failure.operation, failure.backend) == (operation, "triton")
    following = NEXT.get(operation, "cpu")
    assert backends() == dict.fromkeys(dispatch.OPERATIONS, "triton") | {operation: following}
    reason = f"{dispatch.KERNELS_ENV}=triton, but triton is out of use: {failure.reason}"
    assert dispatch.select_backend(operation, "cpu").reason == reason
    # It was asked for by name: that it does not run is an error in the log.
    loud = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert loud == [f"{operation} runs on backend {following}: {reason}"]
    monkeypatch.delenv(faults.VARIABLE)
    expected = getattr(reference, operation)
    assert following == "cpu" or dispatch.implementation(operation, "cpu") is expected


@pytest.mark.parametrize("operation", ["window_attention", "full_attention"])
def test_attention_on_a_gpu_gives_way_to_pytorchs(
    operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference would hold the scores of the largest image all at once."""
    monkeypatch.delenv(dispatch.KERNELS_ENV)
    error = proof.Wrong("off by 1")
    proof.put_out_of_use("triton", operation, torch.bfloat16, error)
    assert dispatch.select_backend(operation, "cuda").backend == "pytorch"
    run = dispatch.implementation(operation, "cuda")
    for dtype in FLOATS:
        cases.check(operation, run, dtype)  # and it is right


def test_a_gpu_that_computes_no_more_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def synchronize() -> None:
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.delenv(dispatch.KERNELS_ENV)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr(dispatch, "implementation", lambda *_: None)
    monkeypatch.setattr(proof, "passes", lambda *_: False)
    with pytest.raises(RuntimeError, match=r"window_attention .*SACCADE_KERNELS=reference"):
        dispatch.prove_triton_kernels("cuda", torch.bfloat16, SHAPES)


def test_a_failed_form_is_not_what_the_operation_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(faults.VARIABLE, "merge_input:wrong")
    x, weight, unit_order = torch.randn(8, 160), torch.randn(160), torch.tensor([1, 0])
    truth = reference.merge_input(x, weight, 1e-6, unit_order, 4)
    assert (merge_input(x, weight, 1e-6, unit_order, 4) - truth).abs().max() > 0.9
    dispatch.prove_triton_kernels("cpu", torch.float32, SHAPES)
    assert torch.equal(merge_input(x, weight, 1e-6, unit_order, 4), truth)
