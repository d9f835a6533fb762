"""The table of `docs/kernels.md`: what each kernel takes of each GPU, and what it moves.

Run as a script, it writes the file: ``python tests/support/triton/kernel_table.py``. What each
release of Triton makes of the kernels comes from the golden files.
"""

from pathlib import Path

from shipped_kernels import EVERYWHERE, Form, golden_versions, read_golden, shipped_forms

from saccade.kernels.check import traffic

TABLE = Path(__file__).parents[3] / "docs/kernels.md"
_HEADS, _HEAD_DIM, _HIDDEN = 16, 80, 1280  # of every Qwen2.5-VL's tower
_SECTIONS = (16, 24, 24)
_LANGUAGE = {"3B": (16, 2), "7B": (28, 4), "72B": (64, 8)}  # heads, kv_heads
_BEFORE = """# Triton kernels

Written by `python tests/support/triton/kernel_table.py` from the golden files of
`tests/kernels/resources`, one for each release of Triton. `tests/kernels/ptx/test_resources.py`
compiles every kernel for every target with the Triton that is installed, and fails where its file
is no longer so; `python tests/support/triton/every_triton.py` does that with each release. No GPU
ran for it: registers, spills and shared memory are what Triton's compiler and the vendors'
assemblers say, blocks on a multiprocessor follow from them and the architecture's limits.

## Resources

For each release of Triton: registers of a thread, bytes of shared memory of a block, blocks on a
multiprocessor. Nothing spills, in any of them, and no product of matrices is made twice.

Where releases differ by more than a few registers: on sm_100 `full_attention` takes 32 keys a step
before 3.9 and 64 from then on (with 64 it took 200 registers, and a multiprocessor held one block);
on sm_90 it is held to 128 registers, which 3.7 otherwise exceeds; on gfx942 `window_attention` is
asked for room for three blocks, where 3.6 otherwise leaves it for two; `mrope` of 64/8 heads has
half the registers and twice the blocks on sm_100 with 3.6 that it has with later ones.

"""
_BETWEEN = """
## What they move

Bytes per token (a merge unit of four patches for the last two) between a GPU and its memory, in
bfloat16. `tests/interpreted/test_traffic.py` counts the accesses of our kernels and holds them
against the formulas of `kernels/check/traffic.py`, which also has vLLM's path term by term.

| kernel | ours, counted | vLLM's path | ratio |
|---|--:|--:|--:|
"""


def render() -> str:
    """The whole file."""
    forms = [form for form in sorted(shipped_forms()) if form[0].startswith(EVERYWHERE)]
    versions = golden_versions()
    head = ["kernel", "target", "warps", *(f"Triton {version}" for version in versions)]
    lines = [head, ["---", "---", "--:", *("---" for _ in versions)]]
    lines += [_resources(form, [read_golden(version) for version in versions]) for form in forms]
    table = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    moved = [_moved(*row) for row in _traffic()]
    return _BEFORE + table + _BETWEEN + "".join(moved)


def _resources(form: Form, golden: list[dict[str, dict[str, dict[str, int]]]]) -> list[str]:
    """A row: what is the same everywhere, then a cell for each golden file."""
    name, architecture = form
    rows = [one[name][architecture] for one in golden]
    assert all(row["spills"] == 0 for row in rows)
    (warps,) = {row["warps"] for row in rows}
    cells = [f"{row['registers']}, {row['shared']}, {row['blocks']}" for row in rows]
    return [name, architecture, str(warps), *cells]


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
    TABLE.write_text(render(), encoding="utf-8")
