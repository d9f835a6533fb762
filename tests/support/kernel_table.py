"""The table of `docs/kernels.md`: what each kernel takes of each GPU, and what it moves.

Run as a script, it writes the file: ``python tests/support/kernel_table.py``. Registers, shared
memory and blocks are those of the golden file, the rest is measured.
"""

from collections.abc import Callable
from pathlib import Path

from resources import Resources
from shipped_kernels import EVERYWHERE, Form, measure_all, read_golden, shipped_forms
from tensor_work import expected_instructions

from saccade.kernels import traffic

TABLE = Path(__file__).parents[2] / "docs/kernels.md"
_HEADS, _HEAD_DIM, _HIDDEN = 16, 80, 1280  # of every Qwen2.5-VL's tower
_SECTIONS = (16, 24, 24)
_LANGUAGE = {"3B": (16, 2), "7B": (28, 4), "72B": (64, 8)}  # heads, kv_heads
_BEFORE = """# Triton kernels

Written by `python tests/support/kernel_table.py`; `tests/kernels/test_resources.py` compiles every
kernel for every target and fails where this is no longer so. No GPU ran for it: registers, spills
and shared memory are what Triton's compiler and the vendors' assemblers say, blocks on a
multiprocessor follow from them and the architecture's limits.

## What they take

Registers of a thread (spilled ones behind +), bytes of shared memory and warps of a block, blocks
on a multiprocessor, tensor-core instructions in a warp's code against those that the products need.

| kernel | target | registers | shared | warps | blocks | tensor core |
|---|---|--:|--:|--:|--:|--:|
"""
_BETWEEN = """
## What they move

Bytes per token (a merge unit of four patches for the last two) between a GPU and its memory, in
bfloat16. `tests/interpreted/test_traffic.py` counts the accesses of our kernels and holds them
against the formulas of `kernels/traffic.py`, which also has vLLM's path term by term.

| kernel | ours, counted | vLLM's path | ratio |
|---|--:|--:|--:|
"""


def render(measured: Callable[[Form], Resources]) -> str:
    """The whole file."""
    forms = [form for form in sorted(shipped_forms()) if form[0].startswith(EVERYWHERE)]
    rows = [_resources(form, measured(form)) for form in forms]
    moved = [_moved(*row) for row in _traffic()]
    return _BEFORE + "".join(rows) + _BETWEEN + "".join(moved)


def _resources(form: Form, found: Resources) -> str:
    name, architecture = form
    golden = read_golden()[name][architecture]
    tensor = f"{sum(found.tensor_core.values())} of {expected_instructions(form, found.warps)}"
    cells = (
        name,
        architecture,
        f"{golden['registers']} + {found.spills}",
        golden["shared"],
        golden["warps"],
        golden["blocks"],
        tensor,
    )
    return "| " + " | ".join(map(str, cells)) + " |\n"


def _traffic() -> list[tuple[str, int, int | None]]:
    rows: list[tuple[str, int, int | None]] = [
        (
            "window_attention",
            traffic.window_attention(_HEADS, _HEAD_DIM),
            traffic.stock_window_attention(_HEADS, _HEAD_DIM),
        ),
        (
            "rotate_packed, before full_attention",
            traffic.rotate_packed(_HEADS, _HEAD_DIM),
            traffic.stock_rotate_packed(_HEADS, _HEAD_DIM),
        ),
        ("full_attention", traffic.full_attention(_HEADS, _HEAD_DIM), None),
    ]
    for model, (heads, kv_heads) in _LANGUAGE.items():
        ours = traffic.mrope(heads, kv_heads, 128, _SECTIONS)
        rows.append((f"mrope, {model}", ours, traffic.stock_mrope(heads, kv_heads, 128, _SECTIONS)))
    rows.append(("merge_input", traffic.merge_input(_HIDDEN, 4), None))
    rows.append(("patch_input, stills", traffic.patch_input(1, 14, 2), None))
    return rows


def _moved(name: str, ours: int, stock: int | None) -> str:
    other = (stock, f"{stock / ours:.2f}") if stock else ("", "")
    return f"| {name} | {ours} | {other[0]} | {other[1]} |\n"


if __name__ == "__main__":
    futures = measure_all()
    TABLE.write_text(render(lambda form: futures[form].result()), encoding="utf-8")
