"""The operations that the model calls, registered with PyTorch: ``torch.ops.saccade.*``.

Each is the function of its name in `reference`, run by the backend that `dispatch` selects.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch

from . import dispatch, reference


def _register(name: str, shape: Callable[..., Any], mutates: Iterable[str] = ()) -> Any:
    """The operation.

    Args:
        shape: Makes the result, empty, from the same arguments.
        mutates: Arguments that it writes to.
    """

    @functools.wraps(getattr(reference, name))
    def run(first: torch.Tensor, *others: Any) -> Any:
        return dispatch.implementation(name, first.device.type)(first, *others)

    operation = torch.library.custom_op(f"saccade::{name}", run, mutates_args=mutates)
    operation.register_fake(shape)
    return operation


def _context(qkv: torch.Tensor, *_: Any) -> torch.Tensor:
    return qkv.new_empty(qkv.shape[0], qkv.shape[2] * qkv.shape[3])


window_attention = _register("window_attention", _context)
full_attention = _register("full_attention", _context, mutates=["qkv"])
mrope = _register("mrope", lambda *_: None, mutates=["query", "key"])
patch_input = _register(
    "patch_input", lambda pixels, *others: pixels.new_empty(pixels.shape, dtype=others[-1])
)
merge_input = _register(
    "merge_input", lambda x, _, __, order, unit: x.new_empty(len(order), unit * x.shape[1])
)
