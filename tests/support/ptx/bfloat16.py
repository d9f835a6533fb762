"""bfloat16 for numpy, which has none: bit patterns in uint16."""

import numpy as np


def widen_bfloat16(bits: np.ndarray) -> np.ndarray:
    """To float32, which is exact."""
    return (np.asarray(bits).astype(np.uint32) << np.uint32(16)).view(np.float32)


def round_to_bfloat16(values: np.ndarray, nan: int = 0x7FC0) -> np.ndarray:
    """float32 to the nearest bfloat16, ties to even; every NaN to the pattern ``nan``."""
    values = np.asarray(values, dtype=np.float32)
    bits = np.ascontiguousarray(values).view(np.uint32).astype(np.uint64).reshape(values.shape)
    bits += np.uint64(0x7FFF) + ((bits >> np.uint64(16)) & np.uint64(1))
    rounded = (bits >> np.uint64(16)).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(nan), rounded)
