"""Selects the backend of each operation: Triton, CPU or reference.

``SACCADE_KERNELS`` is ``auto`` (the fastest backend that the device has), or names one: ``triton``,
``cpu`` or ``reference``. A backend that has failed its self-test gives way to the next.
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

KERNELS_ENV = "SACCADE_KERNELS"
BACKENDS = ("triton", "cpu", "reference")

# PyTorch's own attention, where Triton's is out of use: the reference holds all scores at once.
_PYTORCH = "pytorch"

# The function of each operation on each backend; `reference` has all of them.
_BACKENDS = {
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
        "cpu": "cpu.operations:patch_input",
    },
    "merge_input": {"triton": "merger:launch_merge_input"},
}
OPERATIONS = tuple(_BACKENDS)


class Choice(NamedTuple):
    """A backend of an operation, and the reason for it in a few words."""

    backend: str
    reason: str


def select_backend(operation: str, device_type: str) -> Choice:
    """The backend that runs on tensors of this device (``cpu``, ``cuda``; ROCm's is ``cuda``).

    Raises:
        ValueError: ``SACCADE_KERNELS`` names no backend, or one that this device cannot run.
    """
    preferred = _preferred(operation, device_type)
    failure = proof.out_of_use("triton", operation) if preferred.backend == "triton" else None
    if failure is None:
        return preferred
    next_backend = "cpu" if device_type == "cpu" else _PYTORCH
    forced = f"{preferred.reason}, but " if preferred.reason.startswith(KERNELS_ENV) else ""
    reason = f"{forced}triton is out of use: {failure.reason}"
    return Choice(next_backend if next_backend in _BACKENDS[operation] else "reference", reason)


def _preferred(operation: str, device_type: str) -> Choice:
    """As `select_backend`, whatever has failed."""
    wanted = os.environ.get(KERNELS_ENV, "auto")
    if wanted == "auto":
        best = {"cuda": "triton", "cpu": "cpu"}.get(device_type, "reference")
        if best in _BACKENDS[operation]:
            return Choice(best, f"the fastest on {device_type}")
        return Choice("reference", f"no other backend on {device_type}")
    if wanted not in BACKENDS:
        raise ValueError(f"{KERNELS_ENV} is {wanted!r}; it must be auto, {', '.join(BACKENDS)}")
    if wanted == "cpu" and device_type != "cpu":
        raise ValueError(f"{KERNELS_ENV}=cpu cannot run on {device_type}")
    if wanted == "triton" and device_type != "cuda" and not _is_interpreted():
        raise ValueError(
            f"{KERNELS_ENV}=triton cannot run on {device_type} without TRITON_INTERPRET=1"
        )
    if wanted != "reference" and wanted not in _BACKENDS[operation]:
        return Choice("reference", f"{KERNELS_ENV}={wanted}, which this operation does not have")
    return Choice(wanted, f"{KERNELS_ENV}={wanted}")


@proof.cached
def implementation(operation: str, device_type: str) -> Callable[..., Any]:
    """The function that runs ``operation`` on tensors of this device; selected once.

    Raises:
        ValueError: as `select_backend`.
    """
    backend = select_backend(operation, device_type).backend
    run = _load(operation, backend)
    return faults.inject(operation, run) if backend == "triton" else run


def prove_triton_kernels(
    device_type: str, dtype: torch.dtype, shapes: cases.Shapes = cases.EDGES
) -> None:
    """Test the Triton kernels that would run: when a model is built.

    At the model's own sizes, whose kernels have to be compiled anyway. What fails is logged and
    out of use from here on; to be called before anything captures or compiles a backend.

    Args:
        dtype: Of the model.
    """
    for operation in OPERATIONS:
        if select_backend(operation, device_type).backend == "triton":
            run = implementation(operation, device_type)
            test = functools.partial(cases.check, operation, run, dtype, device_type, shapes)
            if not proof.passes("triton", operation, dtype, test):
                _check_device(operation, device_type)
                backend, reason = select_backend(operation, device_type)
                logger.error("%s runs on backend %s: %s", operation, backend, reason)


def _check_device(operation: str, device_type: str) -> None:
    """After a kernel has failed: whether the device still computes, which no other backend mends.

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
            f"{KERNELS_ENV}=reference, and report it"
        ) from error


@functools.cache
def _load(operation: str, backend: str) -> Callable[..., Any]:
    module, name = _BACKENDS[operation].get(backend, f"reference:{operation}").split(":")
    function: Callable[..., Any] = getattr(importlib.import_module(f".{module}", __package__), name)
    return function


def _is_interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"
