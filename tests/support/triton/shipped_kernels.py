"""Every shipped form of every kernel, compiled for each architecture, and what that takes.

Run as a script, it writes the golden file of `tests/kernels/ptx/test_resources.py` anew, that of
the Triton that is imported: ``python tests/support/triton/shipped_kernels.py``. What it changes is
for people to review. `tests/support/triton/every_triton.py` does the same with each supported
Triton.
"""

import functools
import json
import multiprocessing
import os
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import triton
from aot import ARCHITECTURES, compile_kernel
from kernel_forms import Specialisation, all_specialisations
from occupancy import MULTIPROCESSORS
from resources import Resources, read_resources

# A file for each minor version of Triton, as `3.9.json`: releases compile differently.
GOLDEN = Path(__file__).parents[2] / "kernels/resources"
TRITON = ".".join(triton.__version__.split(".")[:2])
# These are compiled for all architectures. Other forms differ from them in constants alone (heads
# of a tensor-parallel share, heads of other models): one architecture shows that they compile.
EVERYWHERE = (
    "window_attention 16 heads of 80",
    "rotate_packed 16 heads of 80",
    "full_attention 16 heads of 80",
    "mrope 16/2 heads of 128, blocks",
    "mrope 28/4 heads of 128, blocks",
    "mrope 64/8 heads of 128, blocks",
    "merge_input",
    "patch_input",
)
ELSEWHERE = "sm_90"

Form = tuple[str, str]  # name of the specialisation, architecture


@functools.cache
def specialisations(architecture: str) -> dict[str, Specialisation]:
    """All shipped forms by name."""
    by_name: dict[str, Specialisation] = {}
    for form in all_specialisations(architecture):
        if by_name.setdefault(form.name, form) != form:
            raise ValueError(f"two forms are named {form.name}")
    return by_name


def shipped_forms() -> list[Form]:
    """What is compiled, those that take longest first."""
    return [
        (name, architecture)
        for architecture in reversed(ARCHITECTURES)
        for name in specialisations(architecture)
        if architecture == ELSEWHERE or name.startswith(EVERYWHERE)
    ]


def measure(form: Form) -> Resources:
    """Compile one form and read what it takes."""
    name, architecture = form
    return read_resources(compile_kernel(specialisations(architecture)[name], architecture))


def measure_all() -> dict[Form, Future[Resources]]:
    """Start to compile everything, on all cores."""
    # Not forked: this process has threads.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(os.cpu_count(), mp_context=context)
    futures = {form: executor.submit(measure, form) for form in shipped_forms()}
    executor.shutdown(wait=False)
    return futures


def blocks_of(form: Form, resources: Resources) -> int:
    """How many blocks a multiprocessor holds."""
    return MULTIPROCESSORS[form[1]].blocks_of(
        resources.registers, resources.shared, resources.warps, resources.tensor_columns
    )


def golden_row(form: Form, resources: Resources) -> dict[str, int]:
    """What the golden file keeps of a form."""
    return {
        "registers": resources.registers,
        "shared": resources.shared,
        "warps": resources.warps,
        "blocks": blocks_of(form, resources),
        "spills": resources.spills,
        "tensor": sum(resources.tensor_core.values()),
    }


def golden_versions() -> list[str]:
    """The minor versions of Triton that there is a golden file of, oldest first."""
    versions = [file.stem for file in GOLDEN.glob("*.json")]
    return sorted(versions, key=lambda version: [int(part) for part in version.split(".")])


def read_golden(version: str = TRITON) -> dict[str, dict[str, dict[str, int]]]:
    """Form, then architecture, to what `golden_row` says.

    Args:
        version: Minor version of Triton, such as ``3.9``.

    Raises:
        ValueError: nobody has looked at what this Triton makes of the kernels.
    """
    file = GOLDEN / f"{version}.json"
    if not file.exists():
        raise ValueError(f"no golden file of Triton {version}, only of {golden_versions()}")
    return json.loads(file.read_text())["forms"]


def write_golden(measured: dict[Form, Resources]) -> None:
    """Write the file of the Triton that is imported."""
    rows: dict[str, dict[str, Any]] = {}
    for form, resources in measured.items():
        name, architecture = form
        rows.setdefault(name, {})[architecture] = golden_row(form, resources)
    about = (
        "Registers of a thread, bytes of shared memory and warps of a block, blocks on a"
        " multiprocessor, instructions that spill, tensor-core instructions of a warp."
        f" Triton {triton.__version__}. Written by: python tests/support/triton/shipped_kernels.py"
    )
    lines = []
    for name, row in sorted(rows.items()):
        per_architecture = [
            f"      {json.dumps(architecture)}: {json.dumps(row[architecture])}"
            for architecture in ARCHITECTURES
            if architecture in row
        ]
        lines.append(f"    {json.dumps(name)}: {{\n" + ",\n".join(per_architecture) + "\n    }")
    text = ",\n".join(lines)
    GOLDEN.mkdir(exist_ok=True)
    file = GOLDEN / f"{TRITON}.json"
    file.write_text(f'{{\n  "about": {json.dumps(about)},\n  "forms": {{\n{text}\n  }}\n}}\n')


if __name__ == "__main__":
    write_golden({form: future.result() for form, future in measure_all().items()})
