"""The registered operations of attention, as a compiler and a dispatcher see them."""

import pytest
import torch
from attention_samples import assert_close, attend_exactly, draw
from torch._subclasses import FakeTensorMode

from saccade.kernels import dispatch
from saccade.kernels.operations import full_attention, window_attention

OPERATIONS = [window_attention, full_attention]
DTYPES = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=["window_attention", "full_attention"])
def test_registration(operation, backend, dtype, monkeypatch):
    """Schema, mutation, fake tensors and compilation agree with what the operation does."""
    monkeypatch.setenv(dispatch.KERNELS_ENV, backend)
    sample = draw([5, 64, 1], 3, 80, dtype)
    torch.library.opcheck(operation, tuple(vars(sample).values()))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=["window_attention", "full_attention"])
def test_result(operation, backend, dtype, monkeypatch):
    monkeypatch.setenv(dispatch.KERNELS_ENV, backend)
    sample = draw([5, 64, 1], 3, 80, dtype)
    exact = attend_exactly(sample)
    twin = draw([5, 64, 1], 3, 80, dtype)
    assert_close(operation(**vars(sample)), twin, exact)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize(("tokens", "heads", "head_dim"), [(0, 16, 80), (70, 3, 80), (9, 4, 128)])
@pytest.mark.parametrize("operation", OPERATIONS, ids=["window_attention", "full_attention"])
def test_on_a_gpu_that_is_not_there(operation, tokens, heads, head_dim, dtype):
    with FakeTensorMode():
        qkv = torch.empty(tokens, 3, heads, head_dim, dtype=dtype, device="cuda")
        angles = torch.empty(tokens, head_dim // 2, device="cuda")
        cu_seqlens = torch.empty(3, dtype=torch.int32, device="cuda")
        out = operation(qkv, angles, angles, cu_seqlens, 64)
    assert out.shape == (tokens, heads * head_dim)
    assert out.dtype == dtype
    assert out.device.type == "cuda"
    assert out.is_contiguous()


@pytest.mark.parametrize("operation", OPERATIONS, ids=["window_attention", "full_attention"])
def test_only_full_attention_says_that_it_overwrites(operation):
    overwritten = [
        argument.name
        for argument in operation._opoverload._schema.arguments
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    assert overwritten == (["qkv"] if operation is full_attention else [])
