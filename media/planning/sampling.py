"""Frame sampling: the rules of qwen-vl-utils 0.0.14, rounding included."""

import math

import numpy as np

from saccade.media.controls import VideoControls
from saccade.media.errors import ControlError, DecodeError
from saccade.media.planning.frame_times import FrameTimes

DEFAULT_FPS = 2.0
DEFAULT_MIN_FRAMES = 4
DEFAULT_MAX_FRAMES = 768


def frame_range(
    controls: VideoControls, frames: int, fps: float, times: FrameTimes | None = None
) -> tuple[int, int]:
    """First and last source frame between ``video_start`` and ``video_end``, both included.

    Times beyond the video count as its end (``calculate_video_frame_range`` of the reference).

    Args:
        frames: of the source; ``fps``: their rate.
        times: when they are shown; None: at that rate.

    Raises:
        ControlError: fewer than two frames remain.
    """
    if controls.video_start is None and controls.video_end is None:
        return 0, frames - 1
    duration = frames / fps if times is None else times.end
    first, last = 0, frames - 1
    if controls.video_start is not None:
        if times is None:
            first = math.ceil(min(controls.video_start, duration) * fps)
        else:
            first = int(np.searchsorted(times.seconds, controls.video_start, "left"))
    if controls.video_end is not None:
        if times is None:
            last = min(math.floor(min(controls.video_end, duration) * fps), frames - 1)
        else:
            last = int(np.searchsorted(times.seconds, controls.video_end, "right")) - 1
    if first >= last:
        raise ControlError(
            f"fewer than two frames lie between video_start and video_end; the video has {frames} "
            f"frames in {duration:.2f} s",
            "video_end" if controls.video_start is None else "video_start",
        )
    return first, last


def sampled_frames(
    controls: VideoControls, first: int, last: int, fps: float, multiple: int
) -> tuple[int, ...]:
    """Numbers of the frames to sample, spread evenly over ``first`` to ``last``, both included.

    Args:
        fps: rate of the frames in the source.
        multiple: the count is divisible by this (frames in one step of the grid).

    Raises:
        ControlError: ``nframes`` or ``max_frames`` that cannot be met.
        DecodeError: a video shorter than ``multiple`` frames.
    """
    total = last - first + 1
    if total < multiple:
        raise DecodeError(f"the video has {total} frame(s), at least {multiple} are needed")
    count = frame_count(controls, total, total / fps, multiple)
    import torch  # takes a second, and plans and grounding are read without it, too

    # The reference spaces them in float32 and rounds halves to even. Torch's own linspace is used
    # so that long videos fall on the same frames: its float32 steps differ from float64 ones.
    return tuple(torch.linspace(first, last, count).round().long().tolist())


def sampled_instants(
    controls: VideoControls, duration: float, multiple: int
) -> tuple[tuple[float, ...], float]:
    """(seconds, evenly spaced from ``video_start`` on; how many a second) for sampling by time.

    A frame that is on screen for long is met several times.

    Raises:
        ControlError: nothing lies between ``video_start`` and ``video_end``; or as
            `sampled_frames`.
    """
    start = controls.video_start or 0.0
    seconds = min(duration, controls.video_end or duration) - start
    if seconds <= 0:
        raise ControlError(f"the video ends at {duration:.2f} s", "video_start")
    count = frame_count(controls, DEFAULT_MAX_FRAMES, seconds, multiple)
    return tuple(start + index * seconds / count for index in range(count)), count / seconds


def frame_count(controls: VideoControls, total: int, seconds: float, multiple: int) -> int:
    """How many frames to sample of ``total`` in so many seconds (``smart_nframes``).

    Raises:
        ControlError: as `sampled_frames`.
    """
    least = DEFAULT_MIN_FRAMES if controls.min_frames is None else controls.min_frames
    least = math.ceil(least / multiple) * multiple
    most = min(DEFAULT_MAX_FRAMES, total) if controls.max_frames is None else controls.max_frames
    most = math.floor(most / multiple) * multiple
    wanted = seconds * (DEFAULT_FPS if controls.fps is None else controls.fps)
    count = math.floor(min(max(wanted, least), most, total) / multiple) * multiple
    if controls.nframes is not None:
        count = round(controls.nframes / multiple) * multiple
        if not multiple <= count <= total:
            raise ControlError(
                f"nframes is {controls.nframes}, which rounds to {count}; the video has {total} "
                f"frames to choose from and at least {multiple} are needed",
                "nframes",
            )
    elif count < multiple:
        raise ControlError(f"max_frames must be at least {multiple}", "max_frames")
    return count
