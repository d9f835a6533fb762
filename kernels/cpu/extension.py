"""Loads the compiled operations of the CPU backend (attention, layers, images), if they are built.

See `build`, which builds them.
"""

import ctypes
import functools
import threading
from typing import Any, NamedTuple

import torch

from .build import library

_LOCK = threading.Lock()


class Extension(NamedTuple):
    """What there is of it.

    Attributes:
        operations: ``attention(qkv, cos, sin, cu_seqlens)`` and ``attention_bfloat16``, the layers
            of ``layers.cpp``, ``resize(pixels, out)`` and ``map_colours(pixels, table)``; None if
            there are none. Whether they are right is not known here: `compiled.operation` is the
            way to them.
        reason: Why it is, or is not, there.
        decode_resized_jpeg: ``saccade_decode_resized_jpeg`` of ``jpeg.cpp``; None if that is
            not there.
        resize_png: ``saccade_resize_png`` of ``png.cpp``; None if that is not there.
    """

    operations: Any
    reason: str
    decode_resized_jpeg: Any = None
    resize_png: Any = None


@functools.cache
def load() -> Extension:
    """Load it, if it has been built for this machine from this source."""
    with _LOCK:  # two threads may be the first, and it registers once
        return _load()


@functools.cache
def _load() -> Extension:
    file = library()
    if not file.exists():
        return Extension(None, "not compiled here: saccade doctor --fix")
    try:
        loaded = ctypes.CDLL(str(file))  # registers its operations with PyTorch
    except OSError as error:
        return Extension(None, f"compiled, but not loaded: {error}")
    _register_fakes()
    reason = "compiled for this processor"
    decode = getattr(loaded, "saccade_decode_resized_jpeg", None)
    resize_png = getattr(loaded, "saccade_resize_png", None)
    size = ctypes.c_int64
    for function in (decode, resize_png):
        if function is not None:
            function.argtypes = [ctypes.c_char_p, *4 * (size,), ctypes.c_void_p, size, size]
            function.restype = ctypes.c_bool
    if decode is None:
        reason += "; JPEGs are not: that takes AVX2 and the headers of libjpeg-turbo"
    return Extension(torch.ops.saccade_cpu, reason, decode, resize_png)


def _register_fakes() -> None:
    """What `torch.compile` has to know of them: shapes."""

    @torch.library.register_fake("saccade_cpu::attention")
    @torch.library.register_fake("saccade_cpu::attention_bfloat16")
    def _attention(qkv: Any, cos: Any, sin: Any, cu_seqlens: Any) -> Any:
        return qkv.new_empty(qkv.shape[0], qkv.shape[2] * qkv.shape[3])

    @torch.library.register_fake("saccade_cpu::rms_norm")
    def _rms_norm(x: Any, weight: Any, eps: float) -> Any:
        return torch.empty_like(x)

    @torch.library.register_fake("saccade_cpu::add_rms_norm")
    def _add_rms_norm(x: Any, residual: Any, weight: Any, eps: float) -> None:
        return None

    @torch.library.register_fake("saccade_cpu::silu_and_mul")
    def _silu_and_mul(x: Any) -> Any:
        return x.new_empty(*x.shape[:-1], x.shape[-1] // 2)

    @torch.library.register_fake("saccade_cpu::mrope")
    def _mrope(*_arguments: Any) -> None:
        return None
