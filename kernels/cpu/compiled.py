"""The compiled operations for the CPU (`extension`), each after it has proved itself.

An operation is tested at its first use, in the number format of that use: a process that loads
media tests nothing but what media take.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from ..self_test import cases, faults, proof
from . import extension as cpu_extension
from .processor import processor

_BACKEND = "compiled"
_PIXELS = (torch.uint8,)

# The operations of the extension, and the number formats that they take.
OPERATIONS: dict[str, tuple[torch.dtype, ...]] = {
    "attention": cases.FLOATS,
    "attention_bfloat16": (torch.bfloat16,),
    "mrope": cases.FLOATS,
    "rms_norm": cases.FLOATS,
    "add_rms_norm": cases.FLOATS,
    "silu_and_mul": cases.FLOATS,
    "resize": _PIXELS,
    "map_colours": _PIXELS,
    "decode_resized_jpeg": _PIXELS,
    "resize_png": _PIXELS,
}


@proof.cached
def operation(name: str, dtype: torch.dtype) -> Callable[..., Any] | None:
    """The compiled operation; None where there is none, or it is out of use in this format.

    Args:
        dtype: Of the numbers that it will be given; uint8 for pixels.
    """
    extension = cpu_extension.load()
    if name in ("decode_resized_jpeg", "resize_png"):
        found = getattr(extension, name)
    else:
        found = None if extension.operations is None else getattr(extension.operations, name)
    if found is None or dtype not in OPERATIONS[name]:
        return None
    run = faults.inject(name, found)
    passes = proof.passes(_BACKEND, name, dtype, functools.partial(_check, name, run, dtype))
    return run if passes else None


def prove(*, pixels_only: bool = False) -> Iterator[str]:
    """Test every operation that is there, in every format; a line for each.

    Args:
        pixels_only: Only those that a process without a model on its CPU uses.
    """
    for name, dtypes in OPERATIONS.items():
        if pixels_only and dtypes != _PIXELS:
            continue
        if name == "attention_bfloat16" and not processor().bfloat16_brgemm:
            yield f"{name:<20}not on this processor"
            continue
        right = [dtype for dtype in dtypes if operation(name, dtype) is not None]
        lines = [f"right in {_names(right)}"] if right else []
        wrong: dict[str, list[torch.dtype]] = {}
        for failure in proof.failures():
            if (failure.operation, failure.backend) == (name, _BACKEND):
                wrong.setdefault(failure.reason, []).append(failure.dtype)
        lines += [f"OUT OF USE in {_names(some)}: {reason}" for reason, some in wrong.items()]
        if lines:
            yield f"{name:<20}{'; '.join(lines)}"


def _names(dtypes: Sequence[torch.dtype]) -> str:
    return ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)


def put_out_of_use(name: str, dtype: torch.dtype, error: Exception) -> None:
    """After it failed in use."""
    proof.put_out_of_use(_BACKEND, name, dtype, error)


def _check(name: str, run: Callable[..., Any], dtype: torch.dtype) -> None:
    if not name.startswith("attention"):
        cases.check(name, run, dtype)
        return

    def attention(*arguments: Any) -> Any:
        return run(*arguments[:-1])  # it finds the longest segment itself

    for reference in ("window_attention", "full_attention"):
        cases.check(reference, attention, dtype)
