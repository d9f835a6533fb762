"""MRoPE positions aligned to absolute time, in float64. Pure.

Text advances all three axes together. A medium spans its grid: height and width by index, time by
``floor(index * seconds_per_grid * tokens_per_second)``, so that equal ids are equal times at any
frame rate. Text after a medium resumes one above the largest id so far, on all axes. (Section
2.1.2 of the Qwen2.5-VL report; the rule after a medium is that of the original release.)
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# A product like 3 * (2 / 0.3) * 2 may fall short of the whole number it stands for by float64's
# rounding, about 1e-16 of its size. Half a nanosecond puts it right and moves no true fraction.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class MediumPosition:
    """Where a medium stands in the prompt and what it spans.

    Attributes:
        offset: Index of its first placeholder token.
        grid: ``(t, h, w)`` in merged tokens.
        seconds_per_grid: Seconds from one temporal index to the next; None for a still image.
    """

    offset: int
    grid: tuple[int, int, int]
    seconds_per_grid: float | None = None


def temporal_ids(
    count: int, seconds_per_grid: float, tokens_per_second: float
) -> npt.NDArray[np.int64]:
    """Temporal position ids of ``count`` grid steps. ``[count]``"""
    ticks = np.arange(count, dtype=np.float64) * (seconds_per_grid * tokens_per_second)
    return np.floor(ticks + _ROUNDING).astype(np.int64)


def mrope_positions(
    length: int, media: Iterable[MediumPosition], tokens_per_second: float
) -> tuple[npt.NDArray[np.int64], int]:
    """Positions of a prompt of ``length`` tokens.

    Returns:
        ``[3, length]`` (time, height, width), and what has to be added to the index of a
        generated token to get its position.
    """
    positions = np.empty((3, length), dtype=np.int64)
    token, position = 0, 0
    for medium in sorted(media, key=lambda medium: medium.offset):
        text = medium.offset - token
        positions[:, token : medium.offset] = np.arange(position, position + text)
        position += text
        t, h, w = medium.grid
        token = medium.offset + t * h * w
        times = np.arange(t)
        if medium.seconds_per_grid is not None:
            times = temporal_ids(t, medium.seconds_per_grid, tokens_per_second)
        span = positions[:, medium.offset : token].reshape(3, t, h, w)  # a view
        span[0] = position + times[:, None, None]
        span[1] = np.arange(position, position + h)[:, None]
        span[2] = np.arange(position, position + w)
        position += max(int(times[-1]) + 1, h, w)
    text = length - token
    positions[:, token:] = np.arange(position, position + text)
    return positions, position + text - length
