"""For tests: makes operations raise, or return wrong numbers.

``SACCADE_TEST_FAULT=attention:raise,mrope:wrong`` does so to the compiled and Triton backends of
these operations in every process that inherits it; PyTorch's backends stay right. It acts where a
backend is handed out, so that self-tests and requests meet the same fault. `OPERATIONS` are its
names.
"""

import ctypes
import functools
import os
from collections.abc import Callable
from typing import Any

import torch

VARIABLE = "SACCADE_TEST_FAULT"
OPERATIONS = (
    "attention",  # compiled, in all its backends
    "attention_bfloat16",  # compiled, with products of bfloat16
    "rms_norm",
    "add_rms_norm",
    "silu_and_mul",
    "mrope",
    "resize",
    "map_colours",
    "decode_resized_jpeg",
    "resize_png",
    "window_attention",  # Triton's, as those that follow
    "full_attention",
    "patch_input",
    "merge_input",
)
# Arguments that are written to, where nothing is returned.
_WRITTEN = {"mrope": (0, 1), "add_rms_norm": (0, 1), "resize": (1,), "map_colours": (0,)}


class Fault(Exception):
    """What an operation raises that is asked to."""


def inject(operation: str, run: Callable[..., Any]) -> Callable[..., Any]:
    """``run`` itself, or with the fault that is asked for.

    Raises:
        ValueError: the variable names no operation, or no fault.
    """
    requested = os.environ.get(VARIABLE)
    return run if not requested else _inject(operation, run, requested)


def _inject(operation: str, run: Callable[..., Any], requested: str) -> Callable[..., Any]:
    for name, _, kind in (fault.strip().partition(":") for fault in requested.split(",")):
        if name not in OPERATIONS or kind not in ("raise", "wrong"):
            raise ValueError(
                f"{VARIABLE} is {requested!r}; it must be operation:raise or operation:wrong, "
                f"operations being {', '.join(OPERATIONS)}"
            )
        if name in (operation, operation.removesuffix("_bfloat16")):
            return functools.partial({"raise": _raise, "wrong": _err}[kind], operation, run)
    return run


def _raise(_operation: str, _run: Callable[..., Any], *_arguments: Any) -> Any:
    raise Fault(f"asked for by {VARIABLE}")


def _err(operation: str, run: Callable[..., Any], *arguments: Any) -> Any:
    result = run(*arguments)
    if operation in ("decode_resized_jpeg", "resize_png"):
        *_, out, _height, width = arguments
        if result:
            ctypes.memset(out, 0, 3 * width)  # the first row is black
        return result
    written = [arguments[place] for place in _WRITTEN.get(operation, ())]
    for tensor in written or [result]:
        assert isinstance(tensor, torch.Tensor)
        tensor.add_(1)
    return result
