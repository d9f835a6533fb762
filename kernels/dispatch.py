"""The one switch: which form of each operation runs, and why.

``SACCADE_KERNELS`` is ``auto`` (the fastest form that the device has), or names a form:
``triton``, ``cpu`` or ``reference``. A form that has failed its self-test gives way to the next.
"""

import functools
import importlib
import logging
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from .self_test import cases, faults, proof

logger = logging.getLogger("saccade.kernels")

SWITCH = "SACCADE_KERNELS"
FORMS = ("triton", "cpu", "reference")

# PyTorch's own attention, where Triton's is out of use: the reference holds all scores at once.
_PYTORCH = "pytorch"

# Where each form of each operation is.
_PLACES = {
    "window_attention": {
        "triton": "window_attention:launch_window_attention",
        "cpu": "cpu.operations:window_attention",
        _PYTORCH: "cpu.operations:window_attention_in_pieces",
    },
    "full_attention": {
        "triton": "full_attention:launch_full_attention",
        "cpu": "cpu.operations:full_attention",
        _PYTORCH: "cpu.operations:full_attention_in_pieces",
    },
    "mrope": {"triton": "mrope:launch_mrope", "cpu": "cpu.operations:mrope"},
    "patch_input": {
        "triton": "patch_embed:launch_patch_input",
        "cpu": "cpu.patch_input:patch_input",
    },
    "merge_input": {"triton": "merger:launch_merge_input"},
}
OPERATIONS = tuple(_PLACES)


class Choice(NamedTuple):
    """A form of an operation, and the reason for it in a few words."""

    form: str
    reason: str


def choose(operation: str, device_type: str) -> Choice:
    """The form that runs on tensors of this device (``cpu``, ``cuda``; ROCm's is ``cuda``).

    Raises:
        ValueError: the switch names no form, or one that this device cannot run.
    """
    asked = _asked(operation, device_type)
    failure = proof.out_of_use("triton", operation) if asked.form == "triton" else None
    if failure is None:
        return asked
    next_form = "cpu" if device_type == "cpu" else _PYTORCH
    forced = f"{asked.reason}, but " if asked.reason.startswith(SWITCH) else ""
    reason = f"{forced}triton is out of use: {failure.reason}"
    return Choice(next_form if next_form in _PLACES[operation] else "reference", reason)


def _asked(operation: str, device_type: str) -> Choice:
    """As `choose`, whatever has failed."""
    wanted = os.environ.get(SWITCH, "auto")
    if wanted == "auto":
        best = {"cuda": "triton", "cpu": "cpu"}.get(device_type, "reference")
        if best in _PLACES[operation]:
            return Choice(best, f"the fastest on {device_type}")
        return Choice("reference", f"no other form on {device_type}")
    if wanted not in FORMS:
        raise ValueError(f"{SWITCH} is {wanted!r}; it must be auto, {', '.join(FORMS)}")
    if wanted == "cpu" and device_type != "cpu":
        raise ValueError(f"{SWITCH}=cpu cannot run on {device_type}")
    if wanted == "triton" and device_type != "cuda" and not _is_interpreted():
        raise ValueError(f"{SWITCH}=triton cannot run on {device_type} without TRITON_INTERPRET=1")
    if wanted != "reference" and wanted not in _PLACES[operation]:
        return Choice("reference", f"{SWITCH}={wanted}, which this operation does not have")
    return Choice(wanted, f"{SWITCH}={wanted}")


def implementation(operation: str, device_type: str) -> Callable[..., Any]:
    """The function that runs ``operation`` on tensors of this device.

    Raises:
        ValueError: as `choose`.
    """
    form = choose(operation, device_type).form
    run = _load(operation, form)
    return faults.inject(operation, run) if form == "triton" else run


def prove_triton_forms(
    device_type: str, dtype: torch.dtype, shapes: cases.Shapes = cases.EDGES
) -> None:
    """Have Triton's forms prove themselves, where they would run: when a model is built.

    At the model's own sizes, whose kernels have to be compiled anyway. What fails is logged and
    out of use from here on; to be called before anything captures or compiles a form.

    Args:
        dtype: Of the model.
    """
    for operation in OPERATIONS:
        if choose(operation, device_type).form == "triton":
            run = implementation(operation, device_type)
            test = functools.partial(cases.check, operation, run, dtype, device_type, shapes)
            if not proof.passes("triton", operation, dtype, test):
                _check_device(operation, device_type)
                form, reason = choose(operation, device_type)
                logger.error("%s runs in its form %s: %s", operation, form, reason)


def _check_device(operation: str, device_type: str) -> None:
    """After a kernel has failed: whether the device still computes, which no other form mends.

    Raises:
        RuntimeError: it does not; names the operation and the way around it.
    """
    if device_type != "cuda":
        return
    try:
        torch.cuda.synchronize()
    except Exception as error:
        raise RuntimeError(
            f"the GPU computes no more after the kernel {operation} ({error}); start with "
            f"{SWITCH}=reference, and report it"
        ) from error


@functools.cache
def _load(operation: str, form: str) -> Callable[..., Any]:
    module, name = _PLACES[operation].get(form, f"reference:{operation}").split(":")
    function: Callable[..., Any] = getattr(importlib.import_module(f".{module}", __package__), name)
    return function


def _is_interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"
