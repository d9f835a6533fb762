"""What the compiled kernels take of a GPU: no spills, wide accesses, no tensor work done twice.

This compiles with the Triton that is installed, and compares with the golden file of its release.
``python tests/support/triton/every_triton.py`` runs it with each supported release, and with
``--write`` writes the golden files and the table of `docs/kernels.md` anew: after a change that is
meant, do that and review what changed.
"""

import re

import pytest
from kernel_table import TABLE, render
from shipped_kernels import (
    blocks_of,
    golden_row,
    golden_versions,
    measure_all,
    read_golden,
    shipped_forms,
)
from tensor_work import expected_instructions, kernel, vendor

FORMS = shipped_forms()
SPARE_REGISTERS = 8  # what another build of the assembler may take more
LARGEST_SHARED = 99 * 1024  # bytes that a block may have on every architecture

# Bits of the accesses to global memory that each kernel may make. 128 is the most there is; AMD's
# 64 lanes a warp leave fewer numbers to a lane. Narrower ones are of what a program reads once:
# cu_seqlens (32), positions, orders and offsets (64), the rest of a head of 80 whose 16 channels do
# not fill 256 lanes (64). A row of a patch is 42 bytes, so every second one begins at an odd
# multiple of 2: patch_input cannot read more than 16 bits at once.
LOADS = {
    "window_attention": {"sm": {32, 128}, "gfx": {64, 128}},
    "rotate_packed": {"sm": {128}, "gfx": {64, 128}},
    "full_attention": {"sm": {32, 64, 128}, "gfx": {32, 64, 128}},
    "mrope": {"sm": {64, 128}, "gfx": {64}},
    "merge_input": {"sm": {64, 128}, "gfx": {128}},
    "patch_input": {"sm": {16, 64}, "gfx": {16}},
}
NARROW_LOADS = {"window_attention": 2, "mrope": 3, "merge_input": 1}  # on NVIDIA, at most
STORES = {"sm": {128}, "gfx": {64, 128}}


@pytest.fixture(scope="module")
def measured():
    """Resources of a form. All are compiled at once, the first time that one is asked for."""
    futures = measure_all()
    yield lambda form: futures[form].result()
    for future in futures.values():
        future.cancel()


each_form = pytest.mark.parametrize("form", FORMS, ids="/".join)


@each_form
def test_golden(form, measured):
    row, golden = golden_row(form, measured(form)), read_golden()[form[0]][form[1]]
    assert row["registers"] <= golden["registers"] + SPARE_REGISTERS
    assert row["blocks"] >= golden["blocks"]
    assert row["shared"] == golden["shared"]
    for exact in ("warps", "spills", "tensor"):
        assert row[exact] == golden[exact]


@pytest.mark.parametrize("version", golden_versions())
def test_golden_has_what_is_shipped(version):
    golden = read_golden(version)
    assert sorted((name, one) for name in golden for one in golden[name]) == sorted(FORMS)


@each_form
def test_nothing_spills(form, measured):
    resources = measured(form)
    assert resources.spills == 0
    assert resources.stack == 0


@each_form
def test_shared_memory_fits_every_gpu(form, measured):
    resources = measured(form)
    assert resources.shared <= LARGEST_SHARED
    assert blocks_of(form, resources) >= 1


@each_form
def test_accesses_are_wide(form, measured):
    resources = measured(form)
    loads = LOADS[kernel(form)][vendor(form)]
    assert set(resources.loads) <= loads
    assert max(resources.loads) == max(loads)
    assert resources.stores.keys() <= STORES[vendor(form)]
    assert resources.stores
    if vendor(form) == "sm" and kernel(form) in NARROW_LOADS:
        narrow = sum(count for bits, count in resources.loads.items() if bits < 128)
        assert narrow <= NARROW_LOADS[kernel(form)]


@each_form
def test_no_tensor_work_is_done_twice(form, measured):
    resources = measured(form)
    assert sum(resources.tensor_core.values()) == expected_instructions(form, resources.warps)


@each_form
def test_tensor_cores_of_the_architecture(form, measured):
    shapes = {
        "sm_80": r"HMMA\.16816\.F32\.BF16",
        "sm_90": r"HGMMA\.64x\d+x16\.F32\.BF16",
        "sm_100": r"UTCHMMA",
        "gfx942": r"v_mfma_f32_16x16x16_bf16",
    }
    for name in measured(form).tensor_core:
        assert re.fullmatch(shapes[form[1]], name)


def test_the_table_in_the_documentation_is_of_the_golden_files():
    assert render() == TABLE.read_text(encoding="utf-8")
