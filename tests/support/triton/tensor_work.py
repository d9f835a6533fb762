"""Tensor work of the shipped kernels: how many instructions it takes if none is made twice."""

import re

from shipped_kernels import Form, specialisations


def kernel(form: Form) -> str:
    """Its function."""
    return form[0].split()[0]


def vendor(form: Form) -> str:
    """``sm`` for NVIDIA, ``gfx`` for AMD."""
    return re.match("sm|gfx", form[1])[0]


def dots(form: Form) -> list[tuple[int, int, int]]:
    """Rows, columns and depth of each product of matrices that a block makes; of the kernel's loop
    if it has one, a turn of it."""
    name, architecture = form
    constants = specialisations(architecture)[name].constants
    head_dim = constants.get("HEAD_DIM")
    if kernel(form) == "window_attention":
        rows = columns = constants["BLOCK"]
        widths = (constants["VALUE_WIDE"], constants["VALUE_REST"])
    elif kernel(form) == "full_attention":
        rows, columns = constants["ROWS"], constants["COLUMNS"]
        widths = (constants["WIDE"], constants["REST"])
    else:
        return []
    assert sum(widths) == head_dim, "a padded head would waste tensor work"
    if (
        constants.get("NUM_WIDE", 1) > 1
    ):  # scores of a wide head are a loop over parts of both halves
        return [(rows, columns, 2 * constants["WIDE"])]
    scores = [(rows, columns, head_dim)]
    return scores + [(rows, width, columns) for width in widths if width]


def expected_instructions(form: Form, warps: int) -> int:
    """Tensor-core instructions of a warp's code, of 16 values of depth each, if no product is
    made twice and none of padding."""
    architecture = form[1]
    if not dots(form):
        return 0
    if architecture == "sm_80":  # of 16 rows and 8 columns, shared out among the warps
        return sum(m * n * k // (16 * 8 * 16) for m, n, k in dots(form)) // warps
    if architecture == "sm_90":  # of 64 rows and all columns, shared out among groups of 4 warps
        return sum((m // 64) * (k // 16) for m, _, k in dots(form)) // (warps // 4)
    if architecture == "sm_100":  # of all rows and columns, for the block
        return sum(k // 16 for _, _, k in dots(form))
    return sum(m * n * k // (16 * 16 * 16) for m, n, k in dots(form)) // warps
