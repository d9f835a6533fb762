"""The code that Triton compiles for sm_80 computes what it should, run without a GPU: as exact as
PyTorch, without races and out-of-bounds accesses, without bank conflicts."""

from dataclasses import replace

import kernel_checks as checks
import pytest
import torch
from attention_samples import draw
from ptx_launch import ARCHITECTURE, EmulatedKernel
from ptx_parser import Program
from shipped_kernels import specialisations
from triton.runtime.jit import JITFunction

from saccade.kernels import (
    full_attention,
    merger,
    mrope,
    patch_embed,
    rotate_packed,
    window_attention,
)

LARGEST_BANK_RATIO = 1.1


@pytest.fixture
def emulated(monkeypatch):
    """Put emulated kernels into a module; returns them by name. The launcher stays as it is."""

    def emulate(module, change=lambda program: program):
        if hasattr(module, "architecture"):
            monkeypatch.setattr(module, "architecture", lambda device: ARCHITECTURE)
        kernels = {}
        for name, function in vars(module).items():
            if name.endswith("_kernel") and isinstance(function, JITFunction):
                kernels[name] = EmulatedKernel(function, change)
        for name, kernel in kernels.items():
            monkeypatch.setattr(module, name, kernel)
        return kernels

    return emulate


def assert_sound(kernel):
    """Of all that ran: no races, and no two lanes in one bank."""
    assert kernel.launched, "nothing ran"
    assert kernel.statistics.races == []
    assert kernel.statistics.bank_ratio <= LARGEST_BANK_RATIO


# Full windows, those at edges, as short as the shortest; tiles of 64 and of 32.
@pytest.mark.parametrize("lengths", [[64, 16, 4, 1], [33], [32, 4]], ids=str)
def test_window_attention(emulated, lengths):
    (kernel,) = emulated(window_attention).values()
    checks.check_attention(window_attention.launch_window_attention, lengths)
    assert_sound(kernel)
    assert kernel.statistics.executed["mma"] > 0


@pytest.mark.parametrize("lengths", [[16, 4], [5]], ids=str)
def test_window_attention_of_tiny_images(emulated, lengths):
    """Tiles of 16, for images of no more patches. One warp has no one to race with, and one
    access in nine waits for a bank, which is of no weight in so small a launch."""
    (kernel,) = emulated(window_attention).values()
    checks.check_attention(window_attention.launch_window_attention, lengths)
    assert kernel.statistics.races == []
    assert kernel.statistics.executed["mma"] > 0


@pytest.mark.parametrize("lengths", [[150, 33], [64], [1]], ids=str)
def test_full_attention(emulated, lengths):
    (kernel,) = emulated(full_attention).values()
    emulated(rotate_packed)
    checks.check_attention(full_attention.launch_full_attention, lengths)
    assert_sound(kernel)
    assert kernel.statistics.executed["mma"] > 0


def test_rotate_packed(emulated):
    (kernel,) = emulated(rotate_packed).values()
    checks.check_rotate_packed(rotate_packed.launch_rotate_packed, heads=5)
    assert_sound(kernel)


@pytest.mark.parametrize("heads", [(16, 2), (28, 4), (64, 8), (7, 1)], ids=str)
@pytest.mark.parametrize("layout", [checks.BLOCKS, checks.INTERLEAVED], ids=["blocks", "turns"])
def test_mrope(emulated, heads, layout):
    (kernel,) = emulated(mrope).values()
    checks.check_mrope(mrope.launch_mrope, *layout, heads)
    assert_sound(kernel)


def test_merge_input(emulated):
    (kernel,) = emulated(merger).values()
    checks.check_merge_input(merger.launch_merge_input)
    assert_sound(kernel)


@pytest.mark.parametrize("frames", [1, 2], ids=["image", "video"])
def test_patch_input(emulated, frames):
    (kernel,) = emulated(patch_embed).values()
    checks.check_patch_input(patch_embed.launch_patch_input, frames)
    assert_sound(kernel)


class TestRaces:
    """Kernels that work together through shared memory race once their barriers are gone."""

    @staticmethod
    def without_barriers(program: Program) -> Program:
        return program.without("bar")

    @staticmethod
    def without_waits(program: Program) -> Program:
        return program.without("cp", "async", "wait_group")

    @pytest.mark.parametrize("lengths", [[64], [16]], ids=str)
    def test_window_attention(self, emulated, lengths):
        (kernel,) = emulated(window_attention, self.without_barriers).values()
        run_regardless(window_attention.launch_window_attention, lengths)
        assert kernel.statistics.races

    @pytest.mark.parametrize("change", ["without_barriers", "without_waits"])
    def test_full_attention(self, emulated, change):
        emulated(rotate_packed)
        (kernel,) = emulated(full_attention, getattr(self, change)).values()
        run_regardless(full_attention.launch_full_attention, [150])
        assert kernel.statistics.races

    def test_merge_input(self, emulated):
        (kernel,) = emulated(merger, self.without_barriers).values()
        checks.check_merge_input(merger.launch_merge_input)
        assert kernel.statistics.races


def run_regardless(launch, lengths, heads=1):
    """Run an attention whose result does not matter: a race may or may not spoil it."""
    launch(**vars(draw(lengths, heads, 80, torch.bfloat16)))


class TestShippedForms:
    """`specialisations` names what launchers ask for: what other tests compile is what runs."""

    @staticmethod
    def nothing(program: Program) -> Program:
        return replace(program, instructions=())

    def assert_shipped(self, kernel, name):
        (launched,) = kernel.launched
        shipped = specialisations(ARCHITECTURE)[name]
        assert dict(launched.constants) == dict(shipped.constants)
        assert dict(launched.signature) == dict(shipped.signature)
        assert dict(launched.options) == dict(shipped.options)
        assert sorted(launched.divisible) == sorted(shipped.divisible)

    def test_window_attention(self, emulated):
        (kernel,) = emulated(window_attention, self.nothing).values()
        run_regardless(window_attention.launch_window_attention, [64], heads=16)
        self.assert_shipped(kernel, "window_attention 16 heads of 80, bf16")

    def test_full_attention(self, emulated):
        (rotation,) = emulated(rotate_packed, self.nothing).values()
        (attention,) = emulated(full_attention, self.nothing).values()
        run_regardless(full_attention.launch_full_attention, [300], heads=16)
        self.assert_shipped(rotation, "rotate_packed 16 heads of 80, bf16")
        self.assert_shipped(attention, "full_attention 16 heads of 80, bf16")

    @pytest.mark.parametrize("heads", [(16, 2), (28, 4), (64, 8)], ids=str)
    def test_mrope(self, emulated, heads):
        (kernel,) = emulated(mrope, self.nothing).values()
        with pytest.raises(AssertionError):
            checks.check_mrope(mrope.launch_mrope, *checks.BLOCKS, heads)
        self.assert_shipped(kernel, f"mrope {heads[0]}/{heads[1]} heads of 128, blocks, bf16")

    def test_merge_input(self, emulated):
        (kernel,) = emulated(merger).values()
        checks.check_merge_input(merger.launch_merge_input)
        self.assert_shipped(kernel, "merge_input hidden 1280, units of 4, bf16")

    @pytest.mark.parametrize(("kind", "frames"), [("image", 1), ("video", 2)])
    def test_patch_input(self, emulated, kind, frames):
        (kernel,) = emulated(patch_embed).values()
        checks.check_patch_input(patch_embed.launch_patch_input, frames)
        self.assert_shipped(kernel, f"patch_input {kind}, patches of 14, units of 2x2, bf16")
