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
_LONG = 1.5  # average frames that a last one lasts at least to make a difference
_END_TOLERANCE = 0.05  # of the time that is sampled: many containers guess how long the last lasts
_FLOAT_NOISE = 1e-9  # seconds, far above float64's error within a day of video


@dataclass(frozen=True, eq=False)
class FrameTimes:
    """The times of all frames of a video that has no constant frame rate."""

    seconds: npt.NDArray[np.float64]  # [frames], ascending from 0
    rounding: float  # seconds: the unit that the stamps are whole multiples of
    end: float  # seconds: until then the last one is shown


@dataclass(frozen=True)
class SampledTimes:
    """The times of the sampled frames.

    Attributes:
        seconds: one a frame.
        fps: source frames a second, on average from the first sampled frame to the last.
        deviation: seconds between a sampled frame and where that rate would put it, at most; of the
            last frame, also between its end and where that would be, if it lasts unlike others.
    """

    seconds: tuple[float, ...]
    fps: float
    deviation: float


def frame_times(
    stamps: npt.ArrayLike | None, time_base: Fraction | None, fps: float, end: int | None = None
) -> FrameTimes | None:
    """The times of a video's frames.

    Args:
        stamps: of every frame that is shown; None: unknown. ``time_base``: their unit in seconds.
        fps: the video's average rate.
        end: the stamp at which the last one ends; None: it lasts as long as the rate says.

    Returns:
        None where the rate tells the times: the frames follow it but for the rounding of their
        stamps, and the last does not last longer; or all have the same stamp.
    """
    if not time_base or stamps is None:
        return None
    units = np.sort(np.array(stamps, dtype=np.int64))
    if units[0] == units[-1]:
        return None
    seconds = (units - units[0]) * time_base.numerator / time_base.denominator
    ends = float(seconds[-1]) + 1 / fps
    if end is not None:
        ends = float((end - int(units[0])) * time_base)
    rounding = max(float(time_base), _MILLISECOND)
    numbers = np.arange(len(seconds))
    if _follow(seconds, numbers, fps, rounding) and ends - seconds[-1] < _LONG / fps:
        return None
    seconds.setflags(write=False)
    return FrameTimes(seconds, rounding, ends)


def frames_at(
    instants: Sequence[float], frames: int, fps: float, times: FrameTimes | None
) -> tuple[int, ...]:
    """Numbers of the frames that are on screen at these seconds."""
    late = np.array(instants) + _FLOAT_NOISE
    if times is None:
        numbers = np.floor(late * fps).astype(np.int64)
    else:
        numbers = np.searchsorted(times.seconds, late, "right") - 1
    return tuple(np.clip(numbers, 0, frames - 1).tolist())


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
    deviation = float(np.abs(seconds - seconds[0] - (numbers - numbers[0]) / fps).max())
    if numbers[-1] == len(times.seconds) - 1:
        lasts, even = times.end - seconds[0], (numbers[-1] - numbers[0] + 1) / fps
        if abs(lasts / even - 1) > _END_TOLERANCE:
            deviation = max(deviation, float(abs(lasts - even)))
    return SampledTimes(tuple(seconds.tolist()), fps, deviation)


def _follow(
    seconds: npt.NDArray[np.float64], numbers: npt.NDArray[np.int64], fps: float, rounding: float
) -> bool:
    """Whether frames come at a constant rate, their times rounded to multiples of ``rounding``.

    Rounding takes two frames apart or together by one multiple at most. Where that is as long as
    a frame, as in AVI, it would be a missing frame.
    """
    spread = np.ptp(seconds - numbers / fps)
    return bool(spread < rounding + _FLOAT_NOISE and spread < 1 / fps - _FLOAT_NOISE)
