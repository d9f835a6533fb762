"""The checks notice mistakes: each passes for the kernel, and fails for mutants of the kernel."""

from functools import partial

import kernel_checks as checks
import pytest
from kernel_mutants import load_mutant

from saccade.kernels import (
    full_attention,
    merger,
    mrope,
    patch_embed,
    rotate_packed,
    window_attention,
)

# Module, and how its launcher is checked. Windows of other sizes than the tile, heads beyond
# the first, segments longer than a block of keys.
CHECKS = {
    "window_attention": (window_attention, partial(checks.check_attention, lengths=[20, 7])),
    "full_attention": (full_attention, partial(checks.check_attention, lengths=[150, 70])),
    "rotate_packed": (rotate_packed, checks.check_rotate_packed),
    "mrope": (mrope, lambda launch: checks.check_mrope(launch, *checks.BLOCKS)),
    "mrope interleaved": (mrope, lambda launch: checks.check_mrope(launch, *checks.INTERLEAVED)),
    "merge_input": (merger, checks.check_merge_input),
    "patch_input image": (patch_embed, partial(checks.check_patch_input, frames=1)),
    "patch_input video": (patch_embed, partial(checks.check_patch_input, frames=2)),
}

# For each check: what is wrong with a mutant, a piece of the kernel's source, what stands there
# instead.
MISTAKES = {
    "window_attention": [
        (
            "mask dropped",
            'tl.where((places < length)[None, :], scores * SCALE, float("-inf"))',
            "scores * SCALE",
        ),
        ("scale dropped", "scores * SCALE, float", "scores, float"),
        ("sin flipped", "(lower * cos - upper * sin)", "(lower * cos + upper * sin)"),
        ("sin flipped in the rest", "columns < REST, -1.0, 1.0", "columns < REST, 1.0, -1.0"),
        (
            "halves not exchanged",
            "START + columns + HALF - upper * (HALF + REST)",
            "START + columns + upper * (HALF - REST)",
        ),
        (
            "angles of the first tile for the rest",
            "pairs = LEFT + columns % REST",
            "pairs = columns % REST",
        ),
        (
            "rows beyond the window written",
            "row_mask = (places < length)[:, None]",
            "row_mask = (places < BLOCK)[:, None]",
        ),
        ("not divided by the sum", "share = (1.0 / tl.sum(weights, 1))[:, None]", "share = 1.0"),
    ],
    "full_attention": [
        (
            "mask dropped",
            'tl.where((key_places < length)[None, :], scores * SCALE, float("-inf"))',
            "scores * SCALE",
        ),
        ("scale dropped", "scores * SCALE, float", "scores, float"),
        ("sum not decayed", "total = total * decay + tl.sum", "total = total + tl.sum"),
        (
            "context not decayed",
            "weights, values, context_rest * decay[:, None]",
            "weights, values, context_rest",
        ),
        (
            "every block the first",
            "first = tl.program_id(0) % query_blocks * ROWS",
            "first = 0 * ROWS",
        ),
    ],
    "rotate_packed": [
        (
            "sin flipped",
            "(lower * turn_cos - upper * turn_sin)",
            "(lower * turn_cos + upper * turn_sin)",
        ),
        ("key left alone", "mask = pairs < 2 * HEADS * HALF", "mask = pairs < HEADS * HALF"),
    ],
    "mrope": [
        ("sin flipped", "(first * cos - second * sin)", "(first * cos + second * sin)"),
        (
            "sections swapped",
            "tl.load(pair_ptr + row, mask=of_row, other=angles)",
            "tl.load(pair_ptr + column, mask=of_row, other=angles)",
        ),
        (
            "a section a pair too short",
            "of_row = (pair >= TIME_PAIRS) & (pair < COLUMN_START)",
            "of_row = (pair >= TIME_PAIRS) & (pair < COLUMN_START - 1)",
        ),
    ],
    "mrope interleaved": [
        (
            "axes swapped",
            "(pair % 3 == 1) & (pair < 3 * ROW_PAIRS)",
            "(pair % 3 == 2) & (pair < 3 * ROW_PAIRS)",
        ),
        ("no rest for time", "(pair % 3 == 2) & (pair < 3 * COLUMN_PAIRS)", "(pair % 3 == 2)"),
    ],
    "merge_input": [
        (
            "order ignored",
            "place = tl.load(unit_order_ptr + patch // UNIT) * UNIT",
            "place = patch // UNIT * UNIT",
        ),
        (
            "mean over the padding",
            "tl.sum(values * values, 0) / HIDDEN",
            "tl.sum(values * values, 0) / PADDED_HIDDEN",
        ),
        ("weight dropped", "values * scale * weights", "values * scale"),
    ],
    "patch_input image": [
        ("centre off by one", "(values - 128)", "(values - 127)"),
        ("bytes swapped", "both & 0xFF, both >> 8", "both >> 8, both & 0xFF"),
        (
            "patches in raster order",
            "patch // MERGE_SIZE * PATCH_SIZE",
            "patch % MERGE_SIZE * PATCH_SIZE",
        ),
    ],
    "patch_input video": [
        ("frames alike", "frame * frame_pairs", "0 * frame_pairs"),
    ],
}


def run_check(name, module):
    _, check = CHECKS[name]
    check(getattr(module, "launch_" + name.split()[0]))


@pytest.mark.parametrize("name", CHECKS)
def test_the_kernel_passes(name):
    run_check(name, CHECKS[name][0])


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        pytest.param(name, old, new, id=f"{name}: {mistake}")
        for name, mistakes in MISTAKES.items()
        for mistake, old, new in mistakes
    ],
)
def test_a_mistake_is_noticed(name, old, new, tmp_path):
    module_name = CHECKS[name][0].__name__.split(".")[-1]
    mutant = load_mutant(module_name, old, new, tmp_path)
    with pytest.raises(AssertionError):
        run_check(name, mutant)


def test_a_mutant_is_never_the_original(tmp_path):
    with pytest.raises(ValueError, match="occurs 0 times"):
        load_mutant("mrope", "no such text", "anything", tmp_path)
    with pytest.raises(ValueError, match="times in mrope"):
        load_mutant("mrope", "tl.load", "anything", tmp_path)
