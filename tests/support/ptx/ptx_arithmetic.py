"""What PTX's arithmetic instructions compute, for many threads at once (PTX ISA, section 9.7).

Numbers are numpy arrays with one element a thread. Registers hold bits; each instruction says what
they mean. Approximate instructions (``ex2.approx``) are computed exactly and rounded.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from bfloat16 import round_to_bfloat16, widen_bfloat16

TYPES: dict[str, Any] = {
    "pred": np.bool_,
    **{f"{kind}{bits}": np.dtype(f"uint{bits}") for kind in "bu" for bits in (8, 16, 32, 64)},
    **{f"s{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"f{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    "bf16": np.dtype("uint16"),  # numpy has no bfloat16: its bits
    "bf16x2": np.dtype("uint32"),
    "f16x2": np.dtype("uint32"),
}
CANONICAL_NAN = 0x7FFF  # of bfloat16, in PTX
_DOUBLE = {"s16": "s32", "u16": "u32", "s32": "s64", "u32": "u64"}


def to_bits(values: np.ndarray) -> np.ndarray:
    """Any numbers as the unsigned integers of the same size."""
    if values.dtype == np.bool_:
        return values
    return np.ascontiguousarray(values).view(f"uint{values.itemsize * 8}")


def from_bits(bits: np.ndarray, type_name: str) -> np.ndarray:
    """The low bits of a register as numbers of a type."""
    dtype = np.dtype(TYPES[type_name])
    if dtype == np.bool_ or bits.dtype == np.bool_:
        return bits
    return bits.astype(f"uint{dtype.itemsize * 8}").view(dtype)


def convert(values: np.ndarray, opcode: tuple[str, ...]) -> np.ndarray:
    """``cvt``, of one number: ``values`` are of the type that the opcode names last."""
    target, source = opcode[-2:]
    if source == "bf16":
        values = widen_bfloat16(values)
    if target == "bf16":
        return round_to_bfloat16(values, CANONICAL_NAN)
    dtype = np.dtype(TYPES[target])
    if values.dtype.kind == "f" and dtype.kind in "iu":
        rounding = {"rzi": np.trunc, "rni": np.rint, "rmi": np.floor, "rpi": np.ceil}[opcode[1]]
        limits = np.iinfo(dtype)
        return np.clip(rounding(values), limits.min, limits.max).astype(dtype)
    return values.astype(dtype)


def compare(opcode: tuple[str, ...], left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``setp``. Comparisons with NaN are false, unless their name ends with u."""
    name = opcode[1]
    functions = {
        "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
        "gt": np.greater, "ge": np.greater_equal,
        "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
    }  # fmt: skip
    if left.dtype.kind != "f":
        return functions[name](left, right)
    unordered = np.isnan(left) | np.isnan(right)
    if name in ("num", "nan"):
        return unordered == (name == "nan")
    if name in functions:
        return functions[name](left, right) & ~unordered
    return functions[name.removesuffix("u")](left, right) | unordered


def _fused(left: np.ndarray, right: np.ndarray, addend: np.ndarray) -> np.ndarray:
    # The product of two float32 is exact in float64.
    return (left.astype(np.float64) * right + addend).astype(left.dtype)


def _extract(values: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """``bfe``, with the highest bit extracted as the sign if ``values`` are signed."""
    wide = values.astype(np.int64) & 0xFFFFFFFF
    field = (wide >> start.astype(np.int64)) & ((np.int64(1) << length.astype(np.int64)) - 1)
    if values.dtype.kind == "i":
        sign = (np.int64(1) << length.astype(np.int64)) >> 1
        field = (field ^ sign) - sign
    return field.astype(values.dtype)


def _permute(left: np.ndarray, right: np.ndarray, selector: np.ndarray) -> np.ndarray:
    """``prmt`` in its default mode: four bytes chosen out of eight."""
    both = (right.astype(np.uint64) << np.uint64(32)) | left.astype(np.uint64)
    result = np.zeros_like(left, dtype=np.uint32)
    for place in range(4):
        choice = (selector >> np.uint32(4 * place)) & np.uint32(0xF)
        byte = (both >> (np.uint64(8) * (choice & np.uint32(7)).astype(np.uint64))).astype(np.uint8)
        spread = np.where(byte & 0x80, 0xFF, 0).astype(np.uint8)
        byte = np.where(choice & np.uint32(8), spread, byte)
        result |= byte.astype(np.uint32) << np.uint32(8 * place)
    return result


def _shift(
    function: Callable[..., Any],
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def shifted(values: np.ndarray, count: np.ndarray) -> np.ndarray:
        bits = values.itemsize * 8
        within = np.minimum(count, bits - 1).astype(values.dtype)
        past = np.where(values < 0, -1, 0) if function is np.right_shift else 0
        return np.where(count < bits, function(values, within), past).astype(values.dtype)

    return shifted


def _divide(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    if left.dtype.kind == "f":
        return left / right
    return ((left - np.fmod(left, right)) // right).astype(left.dtype)


def _high(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    bits = left.itemsize * 8
    exact = left.astype(object) * right.astype(object)
    return np.array([int(one) >> bits for one in exact]).astype(left.dtype)


_FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": _divide, "rem": np.fmod,
    "max": np.fmax, "min": np.fmin, "neg": np.negative, "abs": np.abs,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert,
    "shl": _shift(np.left_shift), "shr": _shift(np.right_shift), "bfe": _extract, "prmt": _permute,
    "fma": _fused, "mad": lambda left, right, addend: left * right + addend,
    "ex2": np.exp2, "lg2": np.log2, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x),
    "rcp": lambda x: 1 / x,
}  # fmt: skip


def operand_types(opcode: tuple[str, ...], count: int) -> list[str]:
    """Types of the ``count`` operands that an arithmetic instruction reads."""
    own = opcode[-1]
    if opcode[0] in ("shl", "shr"):
        return [own, "u32"]
    if opcode[0] == "bfe":
        return [own, "u32", "u32"]
    if opcode[:2] == ("mad", "wide"):
        return [own, own, _DOUBLE[own]]
    return [own] * count


def compute(opcode: tuple[str, ...], values: list[np.ndarray]) -> np.ndarray:
    """The result of an arithmetic instruction.

    Raises:
        NotImplementedError: the instruction was not needed so far.
    """
    name = opcode[0]
    unknown = set(opcode[1:-1]) - {"rn", "approx", "full", "ftz", "lo", "wide", "hi"}
    if name not in _FUNCTIONS or unknown or opcode[-1].endswith(("x2", "bf16")):
        raise NotImplementedError(".".join(opcode))
    if "hi" in opcode:
        if name != "mul":
            raise NotImplementedError(".".join(opcode))
        return _high(*values)
    if "wide" in opcode:
        wide = TYPES[_DOUBLE[opcode[-1]]]
        values = [one.astype(wide) for one in values]
    if "ftz" in opcode:
        values = [_flush(one) for one in values]
    with np.errstate(all="ignore"):
        result = _FUNCTIONS[name](*values)
    return _flush(result) if "ftz" in opcode else result


def _flush(values: np.ndarray) -> np.ndarray:
    """Numbers below the smallest normal one become zero."""
    tiny = np.abs(values) < np.finfo(values.dtype).tiny
    return np.where(tiny, np.copysign(0, values), values).astype(values.dtype)
