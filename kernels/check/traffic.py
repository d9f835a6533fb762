"""Bytes that operations move between a GPU and its memory: of our kernels, which tests count and
hold against these formulas, and of vLLM's own path, term by term.

Every byte counts once if the caches can hold it until it is needed again. ``number`` is the size
of a number of activations in bytes, 2 for bfloat16; angles (cosines and sines) of the tower are
float32 in our kernels, and numbers of activations in vLLM.
"""

SECTOR = 32  # bytes that memory moves at least
POSITION = 8  # bytes of an int64
AXES = 3  # time, row, column


def window_attention(heads: int, head_dim: int, number: int = 2) -> int:
    """Bytes per token of `window_attention`, without the 4 bytes a window of ``cu_seqlens``.

    Queries, keys and values read; results written; a cosine and a sine read for each pair.
    """
    return 4 * heads * head_dim * number + 2 * (head_dim // 2) * 4


def stock_window_attention(heads: int, head_dim: int, number: int = 2) -> int:
    """Bytes per token of what vLLM does instead, in three steps.

    Queries and keys copied out of the packed tensor (read, written); rotated into new tensors
    (read, written, angles read); FlashAttention (queries, keys and values read, results written).
    """
    channels = heads * head_dim * number
    copied = 4 * channels
    rotated = 4 * channels + 2 * (head_dim // 2) * number
    attended = 4 * channels
    return copied + rotated + attended


def rotate_packed(heads: int, head_dim: int, number: int = 2) -> int:
    """Bytes per token of the rotation in place before `full_attention`.

    Queries and keys read and written; a cosine and a sine read for each pair.
    """
    return 4 * heads * head_dim * number + 2 * (head_dim // 2) * 4


def stock_rotate_packed(heads: int, head_dim: int, number: int = 2) -> int:
    """Bytes per token of the first two steps of `stock_window_attention`."""
    return 8 * heads * head_dim * number + 2 * (head_dim // 2) * number


def full_attention(heads: int, head_dim: int, number: int = 2) -> int:
    """Bytes per token that attention moves at least, after the rotation.

    Queries, keys and values read once, results written. Keys and values of a run longer than the
    caches are read again for every block of queries.
    """
    return 4 * heads * head_dim * number


def mrope(
    heads: int, kv_heads: int, head_dim: int, sections: tuple[int, int, int], number: int = 2
) -> int:
    """Bytes per token of `mrope` with sections in blocks and a cache of activations' numbers.

    Queries and keys read and written; three positions read; cosines and sines read from the
    sections of three rows of the cache, in whole sectors.
    """
    turned = 2 * (heads + kv_heads) * head_dim * number
    return turned + AXES * POSITION + 2 * _section_bytes(sections, number)


def stock_mrope(
    heads: int, kv_heads: int, head_dim: int, sections: tuple[int, int, int], number: int = 2
) -> int:
    """Bytes per token of vLLM's ``MRotaryEmbedding.forward_cuda``, which is four launches.

    Three positions read, and by them three rows of the cache gathered (read, written); cosines
    and sines made contiguous (read, written, one launch each); the rotation: sections of three
    rows read, queries and keys read and written.
    """
    rows = AXES * head_dim * number
    turned = 2 * (heads + kv_heads) * head_dim * number
    return AXES * POSITION + 4 * rows + 2 * _section_bytes(sections, number) + turned


def _section_bytes(sections: tuple[int, int, int], number: int) -> int:
    """Bytes of the sectors in which the cosines of each section lie, in a row of its own."""
    total, start = 0, 0
    for pairs in sections:
        end = start + pairs * number
        total += -(-end // SECTOR) * SECTOR - start // SECTOR * SECTOR
        start = end
    return total


def merge_input(hidden: int, unit: int, number: int = 2) -> int:
    """Bytes per unit of ``unit`` patches of `merge_input`, without the weight, which stays cached.

    Patches read and written; the unit's place read.
    """
    return 2 * unit * hidden * number + POSITION


def patch_input(frames: int, patch_size: int, merge_size: int, number: int = 2) -> int:
    """Bytes per unit of ``merge_size**2`` patches of `patch_input`.

    A byte read and a number written for each value of three channels; the unit's corner and its
    raster's two strides read.
    """
    values = merge_size**2 * frames * patch_size**2 * 3
    return values * (1 + number) + 3 * POSITION
