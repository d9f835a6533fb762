"""Compiled operations that fail give way, whatever is wrong with them."""

import threading

import numpy as np
import pytest
import torch
from media_samples import noise

from saccade.kernels import reference
from saccade.kernels.cpu import build, compiled, extension, operations
from saccade.kernels.cpu.processor import processor
from saccade.kernels.self_test import faults, proof
from saccade.kernels.self_test.cases import FLOATS, Shapes, check
from saccade.media.decode.resize import resize

DTYPES = [(name, dtype) for name, dtypes in compiled.OPERATIONS.items() for dtype in dtypes]


@pytest.fixture(autouse=True)
def untested(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has tested nothing."""
    build.build()
    monkeypatch.setattr(proof, "_REASONS", {})


def sample(dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    qkv = torch.randn(70, 3, 2, 80, generator=generator).to(dtype)
    angles = torch.rand(70, 40, generator=generator) * 50
    return qkv, angles.cos(), angles.sin(), torch.tensor([0, 64, 70], dtype=torch.int32)


def absent_here(name: str) -> bool:
    return name == "attention_bfloat16" and not processor().bfloat16_matmul


@pytest.mark.parametrize(("name", "dtype"), DTYPES, ids=str)
def test_every_operation_is_right_here(name: str, dtype: torch.dtype) -> None:
    assert (compiled.operation(name, dtype) is None) == absent_here(name)


@pytest.mark.parametrize("kind", ["raise", "wrong"])
@pytest.mark.parametrize("name", compiled.OPERATIONS)
def test_one_at_fault_is_out_of_use_and_named(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(faults.VARIABLE, f"{name}:{kind}")
    family = {name, f"{name}_bfloat16"} & compiled.OPERATIONS.keys()
    for one, dtype in DTYPES:
        if one in family:
            assert compiled.operation(one, dtype) is None
    assert {failure.operation for failure in proof.failures()} == family
    for other in {"mrope", "rms_norm"} - family:
        assert compiled.operation(other, torch.float32) is not None
    said = {"raise": "raised Fault: asked for by SACCADE_TEST_FAULT", "wrong": "off by "}[kind]
    for failure in proof.failures():
        assert said in failure.reason or absent_here(failure.operation)
        assert f"out of use, the next backend takes over: {failure}" in caplog.messages


@pytest.mark.parametrize("kind", ["raise", "wrong"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["attention", "attention_bfloat16"])
def test_attention_goes_on(
    name: str, dtype: torch.dtype, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(faults.VARIABLE, f"{name}:{kind}")
    *arguments, cu_seqlens = sample(dtype)
    truth = reference.window_attention(arguments[0].float(), *arguments[1:], cu_seqlens, 64)
    for run in (operations.window_attention, operations.full_attention):
        found = run(arguments[0].clone(), *arguments[1:], cu_seqlens, 64)
        assert (found - truth).abs().max() <= 4 * torch.finfo(dtype).eps * truth.abs().max()
    # Where products of bfloat16 fail alone, those of float32 take over, and not PyTorch's backend.
    assert (compiled.operation("attention", dtype) is None) == (name == "attention")


def test_attention_that_fails_in_use_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    qkv, cos, sin, cu_seqlens = sample(torch.float32)
    truth = operations.window_attention(qkv, cos, sin, cu_seqlens, 64)
    monkeypatch.setenv(faults.VARIABLE, "attention:raise")
    proof.forget_selected()
    assert (operations.window_attention(qkv, cos, sin, cu_seqlens, 64) - truth).abs().max() < 1e-5
    (failure,) = proof.failures()
    assert str(failure) == "attention (compiled, float32): raised Fault: asked for by " + (
        faults.VARIABLE
    )


@pytest.mark.parametrize("kind", ["raise", "wrong"])
def test_mrope_goes_on(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(faults.VARIABLE, f"mrope:{kind}")
    query, key, cache = torch.randn(3, 64), torch.randn(3, 32), torch.randn(9, 32)
    expected = query.clone(), key.clone()
    positions = torch.arange(9).view(3, 3)
    for pair, run in (((query, key), operations.mrope), (expected, reference.mrope)):
        run(*pair, positions, cache, 32, [4, 6, 6], False)
    assert torch.equal(query, expected[0])
    assert torch.equal(key, expected[1])


@pytest.mark.parametrize("kind", ["raise", "wrong"])
def test_resize_goes_on(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(60, 80)
    expected = resize(pixels, 28, 56)
    monkeypatch.setattr(proof, "_REASONS", {})
    monkeypatch.setenv(faults.VARIABLE, f"resize:{kind}")
    proof.forget_selected()
    np.testing.assert_array_equal(resize(pixels, 28, 56), expected)
    assert [failure.operation for failure in proof.failures()] == ["resize"]


def attention(*arguments: torch.Tensor) -> torch.Tensor:
    return extension.load().operations.attention(*arguments[:-1])


def last_row_off(*arguments: torch.Tensor) -> torch.Tensor:
    found = attention(*arguments)
    found[-1:] *= 1.05
    return found


def one_not_a_number(*arguments: torch.Tensor) -> torch.Tensor:
    found = attention(*arguments)
    found[-1:, -1:] = torch.nan
    return found


def sine_turned(qkv, cos, sin, cu_seqlens, max_seqlen):
    return attention(qkv, cos, -sin, cu_seqlens, max_seqlen)


def last_key_missing(qkv, cos, sin, cu_seqlens, max_seqlen):
    ends = cu_seqlens.clone()
    ends[-1:] -= 1
    return attention(qkv, cos, sin, ends, max_seqlen).nan_to_num(0)


def halves_swapped(qkv, *rest):
    return attention(qkv, *rest).flip(1)


def another_format(*arguments):
    return attention(*arguments).double()


def a_row_less(*arguments):
    return attention(*arguments)[:-1]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "run",
    [
        last_row_off,
        one_not_a_number,
        sine_turned,
        last_key_missing,
        halves_swapped,
        another_format,
        a_row_less,
    ],
)
@pytest.mark.parametrize("operation", ["window_attention", "full_attention"])
def test_small_mistakes_are_found(operation: str, run, dtype: torch.dtype) -> None:
    check(operation, attention, dtype)
    with pytest.raises(proof.Wrong):
        check(operation, run, dtype)


def test_defaults_of_the_process_are_left_alone_and_do_not_matter() -> None:
    """As while a model is built: another default format, another default device."""
    state = torch.random.get_rng_state()
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"), torch.inference_mode():
            found = [compiled.operation(name, dtype) for name, dtype in DTYPES]
    finally:
        torch.set_default_dtype(default)
    absent = sum(absent_here(name) for name, _ in DTYPES)
    assert found.count(None) == absent
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_is_no_failure_passes_through() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        proof.passes("compiled", "mrope", torch.float32, interrupted)
    assert proof.failures() == []


def test_threads_share_one_test() -> None:
    runs, outcomes, started = [], [], threading.Barrier(4)

    def test() -> None:
        runs.append(1)
        raise OSError("first\nsecond")

    def ask() -> None:
        started.wait()
        outcomes.append(proof.passes("compiled", "mrope", torch.float32, test))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(runs), outcomes) == (1, [False] * 4)
    assert proof.failures()[0].reason == "raised OSError: first"


@pytest.mark.parametrize("asked", ["nonsense", "attention", "attention:slow", "matmul:raise"])
def test_a_fault_that_does_not_exist(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(faults.VARIABLE, asked)
    with pytest.raises(ValueError, match=r"must be operation:raise or operation:wrong"):
        compiled.operation("mrope", torch.float32)


def test_a_models_own_sizes() -> None:
    shapes = Shapes(attention=((2, 80),), longest_window=16, hidden=(160,))
    check("window_attention", attention, torch.float32, shapes=shapes)
