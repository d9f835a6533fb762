"""Presentation times of a video's frames, from the container's timestamps.

Time 0 is the first frame that a player shows: what an edit list cuts off is not counted, and the
stamp that the recording happens to begin with is taken off. A video of a constant frame rate needs
no times of its own: its frames are shown at ``index / fps``, which its stamps only round.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

# Stamps were often rounded to milliseconds before they were copied into a finer container.
_MILLISECOND = 1e-3
_FLOAT_NOISE = 1e-9  # seconds, far above float64's error within a day of video


@dataclass(frozen=True, eq=False)
class FrameTimes:
    """The times of all frames of a video that has no constant frame rate."""

    seconds: npt.NDArray[np.float64]  # [frames], ascending from 0
    rounding: float  # seconds: the unit that the stamps are whole multiples of


@dataclass(frozen=True)
class SampledTimes:
    """The times of the sampled frames.

    Attributes:
        seconds: one a frame.
        fps: source frames a second, on average from the first sampled frame to the last.
        deviation: seconds between a sampled frame and where that rate would put it, at most.
    """

    seconds: tuple[float, ...]
    fps: float
    deviation: float


def frame_times(
    stamps: Sequence[int | None], time_base: Fraction | None, fps: float
) -> FrameTimes | None:
    """The times of a video's frames.

    Args:
        stamps: of every frame that is shown, in any order; ``time_base``: their unit in seconds.
        fps: the video's average rate.

    Returns:
        None where the rate tells the times: the frames follow it but for the rounding of their
        stamps, or the stamps do not tell them apart.
    """
    if not time_base or None in stamps:
        return None
    units = np.unique(np.array(stamps, dtype=np.int64))
    if len(units) < len(stamps):
        return None
    seconds = (units - units[0]) * time_base.numerator / time_base.denominator
    rounding = max(float(time_base), _MILLISECOND)
    if _follow(seconds, np.arange(len(seconds)), fps, rounding):
        return None
    seconds.setflags(write=False)
    return FrameTimes(seconds, rounding)


def sampled_times(indices: Sequence[int], fps: float, times: FrameTimes | None) -> SampledTimes:
    """When the frames with these ascending numbers are shown.

    The average rate is ``fps`` itself where the frames follow it but for rounding: a temporal
    position must not depend on how a container rounds.
    """
    if times is None:
        return SampledTimes(tuple(index / fps for index in indices), fps, 0.0)
    numbers = np.array(indices)
    seconds = times.seconds[numbers]
    if not _follow(seconds, numbers, fps, times.rounding):
        fps = float((numbers[-1] - numbers[0]) / (seconds[-1] - seconds[0]))
    even = seconds[0] + (numbers - numbers[0]) / fps
    return SampledTimes(tuple(seconds.tolist()), fps, float(np.abs(seconds - even).max()))


def _follow(
    seconds: npt.NDArray[np.float64], numbers: npt.NDArray[np.int64], fps: float, rounding: float
) -> bool:
    """Whether frames come at a constant rate, their times rounded to multiples of ``rounding``.

    Rounding takes two frames apart or together by one multiple at most. Where that is as long as
    a frame, as in AVI, it would be a missing frame.
    """
    spread = np.ptp(seconds - numbers / fps)
    return bool(spread < rounding + _FLOAT_NOISE and spread < 1 / fps - _FLOAT_NOISE)
