"""Triton's interpreter made fit for proofs: right in bfloat16, strict about bounds, counting bytes.

Triton 3.9 keeps bfloat16 as bit patterns in uint16. As shipped, its dots multiply these patterns
as if they were integers, and its casts cut digits off instead of rounding.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import triton.language as tl
from bfloat16 import round_to_bfloat16, widen_bfloat16
from touched_memory import OutOfBounds, Traffic
from triton.runtime import interpreter
from triton.runtime.errors import InterpreterError
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

_COMPARISONS = {np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal}
_BITWISE = {np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.left_shift, np.right_shift}
_MENDED_NAMES = (
    "cast_impl",
    "create_fp_to_fp",
    "binary_op",
    "unary_op",
    "create_dot",
    "create_fma",
)
_SHIPPED = {name: getattr(InterpreterBuilder, name) for name in _MENDED_NAMES}


def mend_bfloat16() -> None:
    """Make bfloat16 right in the interpreter, for the rest of the process. May be called twice."""
    for name, method in _MENDED.items():
        setattr(InterpreterBuilder, name, method)


@contextmanager
def shipped_bfloat16() -> Iterator[None]:
    """The interpreter as it is shipped, to show what is wrong with it."""
    before = {name: getattr(InterpreterBuilder, name) for name in _MENDED_NAMES}
    try:
        for name, method in _SHIPPED.items():
            setattr(InterpreterBuilder, name, method)
        yield
    finally:
        for name, method in before.items():
            setattr(InterpreterBuilder, name, method)


def _is_bfloat16(handle: TensorHandle) -> bool:
    return not isinstance(handle.dtype, tl.pointer_type) and handle.dtype.scalar == tl.bfloat16


def _wide(handle: TensorHandle) -> TensorHandle:
    if not _is_bfloat16(handle):
        return handle
    return TensorHandle(widen_bfloat16(handle.data), tl.float32)


def _narrow(values: np.ndarray) -> TensorHandle:
    return TensorHandle(round_to_bfloat16(values), tl.bfloat16)


def _cast(self: InterpreterBuilder, source: TensorHandle, target: tl.dtype) -> TensorHandle:
    if target.scalar == tl.bfloat16:
        if _is_bfloat16(source):
            return source
        if source.dtype.scalar == tl.float64:
            raise NotImplementedError("float64 to bfloat16 would be rounded twice")
        return _narrow(source.data.astype(np.float32))
    source = _wide(source)
    if source.dtype.scalar == target.scalar == tl.float32:
        return source
    return _SHIPPED["cast_impl"](self, source, target)


def _convert(
    self: InterpreterBuilder, source: TensorHandle, target: tl.dtype, rounding: Any
) -> TensorHandle:
    to_nearest = rounding in (None, interpreter._ir.ROUNDING_MODE.RTNE)
    if to_nearest and tl.bfloat16 in (source.dtype.scalar, target.scalar):
        return _cast(self, source, target)
    return _SHIPPED["create_fp_to_fp"](self, source, target, rounding)


def _binary(
    self: InterpreterBuilder, left: TensorHandle, right: TensorHandle, operation: Callable[..., Any]
) -> TensorHandle:
    if not _is_bfloat16(left) or operation in _BITWISE:
        return _SHIPPED["binary_op"](self, left, right, operation)
    # float32 has more than twice the digits of bfloat16: rounding a sum, product or quotient to
    # the one and then to the other equals rounding it once.
    result = operation(_wide(left).data, _wide(right).data)
    return TensorHandle(result, tl.int1) if operation in _COMPARISONS else _narrow(result)


def _unary(
    self: InterpreterBuilder, argument: TensorHandle, operation: Callable[..., Any]
) -> TensorHandle:
    if _is_bfloat16(argument):
        return _narrow(operation(_wide(argument).data))
    return _SHIPPED["unary_op"](self, argument, operation)


def _dot(
    self: InterpreterBuilder, left: TensorHandle, right: TensorHandle, *rest: Any
) -> TensorHandle:
    return _SHIPPED["create_dot"](self, _wide(left), _wide(right), *rest)


def _fma(
    self: InterpreterBuilder, left: TensorHandle, right: TensorHandle, addend: TensorHandle
) -> TensorHandle:
    if _is_bfloat16(addend):
        raise NotImplementedError("a fused multiply-add of bfloat16 would be rounded twice")
    return _SHIPPED["create_fma"](self, left, right, addend)


_MENDED = dict(zip(_MENDED_NAMES, (_cast, _convert, _binary, _unary, _dot, _fma), strict=True))


@contextmanager
def traced(**tensors: torch.Tensor) -> Iterator[Traffic]:
    """Count what kernels load from and store to these tensors, and refuse all other accesses.

    Raises:
        OutOfBounds: a kernel left the tensors. Gaps between rows of a view are not part of it.
    """
    traffic = Traffic(tensors)
    load, store = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store
    atomics = {
        name: getattr(InterpreterBuilder, name)
        for name in ("create_atomic_cas", "create_atomic_rmw")
    }

    def traced_load(self, pointers, mask, *rest):
        _note(traffic, "load", pointers, mask)
        return load(self, pointers, mask, *rest)

    def traced_store(self, pointers, value, mask, *rest):
        _note(traffic, "store", pointers, mask)
        return store(self, pointers, value, mask, *rest)

    def refused(self, *arguments, **options):
        raise NotImplementedError("atomic operations are not traced")

    try:
        InterpreterBuilder.create_masked_load = traced_load
        InterpreterBuilder.create_masked_store = traced_store
        for name in atomics:
            setattr(InterpreterBuilder, name, refused)
        yield traffic
    except InterpreterError as error:  # Triton wraps whatever a kernel raises
        if isinstance(error.__cause__, OutOfBounds):
            raise error.__cause__ from None
        raise
    finally:
        InterpreterBuilder.create_masked_load = load
        InterpreterBuilder.create_masked_store = store
        for name, method in atomics.items():
            setattr(InterpreterBuilder, name, method)


def _note(traffic: Traffic, kind: str, pointers: TensorHandle, mask: TensorHandle) -> None:
    addresses, active = np.broadcast_arrays(pointers.data, mask.data)
    size = interpreter._get_np_dtype(pointers.get_element_ty()).itemsize
    for _ in traffic.touch(kind, addresses[active], size):
        pass
