"""What is read from machine code is true: mistakes that spill, narrow accesses or do tensor work
twice show in it."""

from dataclasses import replace

import pytest
from aot import compile_kernel
from occupancy import MULTIPROCESSORS
from resources import Resources, read_resources
from shipped_kernels import TRITON, specialisations

WINDOW = "window_attention 16 heads of 80, bf16"


def read(architecture: str, name: str = WINDOW, **changes) -> Resources:
    """Resources of a shipped form with other options, or other hints (``divisible``)."""
    form = specialisations(architecture)[name]
    divisible = changes.pop("divisible", form.divisible)
    changed = replace(form, options={**form.options, **changes}, divisible=divisible)
    return read_resources(compile_kernel(changed, architecture))


def products(resources: Resources) -> int:
    """Tensor-core instructions of all warps together."""
    return sum(resources.tensor_core.values()) * resources.warps


def test_a_register_limit_spills():
    resources = read("sm_80", maxnreg=128)
    assert resources.registers <= 128
    assert resources.spills > 0
    assert resources.stack > 0


def test_a_register_limit_spills_on_amd():
    resources = read("gfx942", waves_per_eu=8)  # of 512 registers
    assert resources.registers <= 512 // 8
    assert resources.spills > 0
    assert resources.stack > 0


@pytest.mark.parametrize("architecture", ["sm_90", "gfx942"])
def test_pointers_of_unknown_alignment_narrow_accesses(architecture):
    resources = read(architecture, divisible=())
    assert 16 in resources.loads
    # AMD may store 64 bits at any address, which Triton did until 3.7.
    if architecture != "gfx942" or TRITON not in ("3.6", "3.7"):
        assert 16 in resources.stores


def test_more_warps_than_rows_do_work_twice():
    assert products(read("sm_80", num_warps=8)) == 2 * products(read("sm_80"))


def test_taller_instructions_do_work_twice_on_amd():
    tall = read("gfx942", matrix_instr_nonkdim=32)
    assert "v_mfma_f32_32x32x8_bf16" in tall.tensor_core
    assert products(tall) * 2 > products(read("gfx942"))  # each of them makes twice as many


@pytest.mark.parametrize(
    ("architecture", "registers", "shared", "warps", "blocks"),
    [
        ("sm_80", 32, 0, 1, 32),  # as many blocks as there may be
        ("sm_80", 32, 0, 4, 16),  # as many warps
        ("sm_80", 128, 0, 4, 4),  # 512 threads of 128 registers
        ("sm_80", 129, 0, 4, 3),  # registers are handed out to a warp by 256: 136 a thread
        ("sm_90", 32, 100 * 1024, 4, 2),  # bytes
        ("gfx942", 128, 0, 4, 4),
        ("gfx942", 129, 0, 4, 3),
        ("gfx942", 32, 40 * 1024, 4, 1),
    ],
)
def test_occupancy(architecture, registers, shared, warps, blocks):
    assert MULTIPROCESSORS[architecture].blocks_of(registers, shared, warps, 0) == blocks


def test_tensor_memory_limits_blocks():
    assert MULTIPROCESSORS["sm_100"].blocks_of(32, 0, 4, 128) == 4


def test_options_must_be_pinned():
    form = specialisations("sm_90")[WINDOW]
    options = {"num_warps": 4, "num_stages": 1}
    with pytest.raises(ValueError, match="enable_fp_fusion"):
        compile_kernel(replace(form, options=options), "sm_90")


def test_constants_must_be_given():
    form = specialisations("sm_90")[WINDOW]
    with pytest.raises(ValueError, match="HEAD_DIM"):
        compile_kernel(replace(form, constants={"HEADS": 16}), "sm_90")
