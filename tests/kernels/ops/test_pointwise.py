"""The registered pointwise operations: sound for PyTorch's tracing, and of the right shape on a
device that is not there."""

import pytest
import torch
from rasters import MERGE, PATCH, draw_rasters
from torch._subclasses.fake_tensor import FakeTensorMode

from saccade.kernels import reference
from saccade.kernels.operations import merge_input, mrope, patch_input


@pytest.fixture(autouse=True)
def reference_backend(monkeypatch):
    monkeypatch.setenv("SACCADE_KERNELS", "reference")


def mrope_arguments(device="cpu"):
    packed = torch.randn(5, (4 + 2 + 2) * 128, device=device)
    query, key, _ = packed.split((512, 256, 256), 1)
    positions = torch.arange(15, device=device).view(3, 5)
    cache = torch.randn(20, 128, device=device)
    return query, key, positions, cache, 128, [16, 24, 24], False


def merge_input_arguments(device="cpu"):
    unit_order = torch.tensor([2, 0, 1], device=device)
    return torch.randn(12, 96, device=device), torch.ones(96, device=device), 1e-6, unit_order, 4


def patch_input_arguments(dtype=torch.bfloat16):
    media = draw_rasters([(1, 4, 6), (1, 2, 2)], 1)
    return media.pixels, *media.places, PATCH, MERGE, dtype


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        (mrope, mrope_arguments),
        (merge_input, merge_input_arguments),
        (patch_input, patch_input_arguments),
    ],
    ids=["mrope", "merge_input", "patch_input"],
)
def test_registration(operation, arguments):
    """Schema, mutated arguments, fake results, and tracing with static and dynamic shapes."""
    torch.library.opcheck(operation, arguments())


def test_mrope_runs_the_chosen_form():
    query, key, *rest = mrope_arguments()
    expected_query, expected_key = query.clone(), key.clone()
    reference.mrope(expected_query, expected_key, *rest)
    assert mrope(query, key, *rest) is None
    assert torch.equal(query, expected_query)
    assert torch.equal(key, expected_key)


def test_merge_input_runs_the_chosen_form():
    arguments = merge_input_arguments()
    assert torch.equal(merge_input(*arguments), reference.merge_input(*arguments))


def test_patch_input_runs_the_chosen_form():
    arguments = patch_input_arguments()
    assert torch.equal(patch_input(*arguments), reference.patch_input(*arguments))


class TestOnAnAbsentDevice:
    """Fake tensors of a GPU: what the operations promise about their results."""

    def test_mrope(self):
        with FakeTensorMode():
            assert mrope(*mrope_arguments("cuda")) is None

    def test_merge_input(self):
        with FakeTensorMode():
            x, *rest = merge_input_arguments("cuda")
            out = merge_input(x.bfloat16(), *rest)
        assert (out.shape, out.dtype, out.device.type) == ((3, 384), torch.bfloat16, "cuda")

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
    @pytest.mark.parametrize("width", [588, 1176])
    def test_patch_input(self, width, dtype):
        with FakeTensorMode():
            pixels = torch.empty(24, width, dtype=torch.uint8, device="cuda")
            places = torch.empty(3, 6, dtype=torch.int64, device="cuda").unbind()
            out = patch_input(pixels, *places, PATCH, MERGE, dtype)
        assert (out.shape, out.dtype, out.device.type) == ((24, width), dtype, "cuda")
