"""The one switch: which form of each operation runs, and why.

``SACCADE_KERNELS`` is ``auto`` (the fastest form that the device has), or names a form:
``triton``, ``cpu`` or ``reference``.
"""

import functools
import importlib
import os
from collections.abc import Callable
from typing import Any, NamedTuple

SWITCH = "SACCADE_KERNELS"
FORMS = ("triton", "cpu", "reference")

# Where each form of each operation is.
_PLACES = {
    "window_attention": {
        "triton": "window_attention:launch_window_attention",
        "cpu": "cpu:window_attention",
    },
    "full_attention": {
        "triton": "full_attention:launch_full_attention",
        "cpu": "cpu:full_attention",
    },
    "mrope": {"triton": "mrope:launch_mrope", "cpu": "cpu:mrope"},
    "patch_input": {
        "triton": "patch_embed:launch_patch_input",
        "cpu": "cpu_patch_input:patch_input",
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
    return _load(operation, choose(operation, device_type).form)


@functools.cache
def _load(operation: str, form: str) -> Callable[..., Any]:
    module, name = _PLACES[operation].get(form, f"reference:{operation}").split(":")
    function: Callable[..., Any] = getattr(importlib.import_module(f".{module}", __package__), name)
    return function


def _is_interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"
