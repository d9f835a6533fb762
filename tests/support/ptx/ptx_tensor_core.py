"""Matrices spread over the lanes of a warp, and their products (PTX ISA, section 9.7.15: warp-level
matrix instructions)."""

import numpy as np
from bfloat16 import widen_bfloat16
from ptx_shared_memory import LANES

_LANE = np.arange(LANES)
_GROUP, _MEMBER = _LANE // 4, _LANE % 4  # of four lanes that hold a row together


def spread_matrices(rows: np.ndarray, count: int, transposed: bool) -> list[np.ndarray]:
    """``ldmatrix``: 8x8 matrices of 16-bit numbers, of which each lane receives two neighbours.

    Args:
        rows: uint8 ``[threads, 16]``: lane ``8 * m + r`` brings row r of matrix m.

    Returns:
        uint32 ``[threads]`` for each matrix.
    """
    numbers = np.ascontiguousarray(rows).view(np.uint16).reshape(-1, LANES, 8).astype(np.uint32)
    results = []
    for index in range(count):
        matrix = numbers[:, 8 * index : 8 * index + 8]  # [warps, 8, 8]
        if transposed:
            matrix = matrix.transpose(0, 2, 1)
        low, high = matrix[:, _GROUP, 2 * _MEMBER], matrix[:, _GROUP, 2 * _MEMBER + 1]
        results.append((low | (high << np.uint32(16))).ravel())
    return results


def multiply(
    opcode: tuple[str, ...], left: list[np.ndarray], right: list[np.ndarray], sums: list[np.ndarray]
) -> list[np.ndarray]:
    """``mma.m16n8k16`` of 16-bit numbers with sums in float32.

    Sums are exact to float64 and rounded once; a GPU cuts some digits of each addend off.

    Args:
        left: Four registers of two numbers each, of ``[16, 16]``; ``right`` two, of ``[16, 8]``.
        sums: Four registers of one number each, of ``[16, 8]``.
    """
    format_ = opcode[-2]
    if opcode[1:6] != ("sync", "aligned", "m16n8k16", "row", "col") or opcode[6:] not in (
        ("f32", "bf16", "bf16", "f32"),
        ("f32", "f16", "f16", "f32"),
    ):
        raise NotImplementedError(".".join(opcode))
    warps = len(sums[0]) // LANES
    first = np.zeros((warps, 16, 16))
    second = np.zeros((warps, 16, 8))
    for index, register in enumerate(left):
        row, column = 8 * (index % 2), 8 * (index // 2)
        for side, numbers in enumerate(_numbers(register, format_)):
            first[:, row + _GROUP, column + 2 * _MEMBER + side] = numbers
    for index, register in enumerate(right):
        for side, numbers in enumerate(_numbers(register, format_)):
            second[:, 8 * index + 2 * _MEMBER + side, _GROUP] = numbers
    product = first @ second
    results = []
    for index, addend in enumerate(sums):
        part = product[:, 8 * (index // 2) + _GROUP, 2 * _MEMBER + index % 2]
        results.append((part.ravel() + addend).astype(np.float32))
    return results


def _numbers(register: np.ndarray, format_: str) -> list[np.ndarray]:
    """The two numbers of a register, float32 ``[warps, lanes]`` each, the lower bits first."""
    halves = (register & np.uint32(0xFFFF), register >> np.uint32(16))
    narrow = [half.astype(np.uint16).reshape(-1, LANES) for half in halves]
    if format_ == "bf16":
        return [widen_bfloat16(half) for half in narrow]
    return [half.view(np.float16).astype(np.float32) for half in narrow]
