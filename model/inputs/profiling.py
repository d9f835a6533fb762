"""Sizes of the dummy media with which the engine measures its memory. Pure."""

import math

from saccade.media.planning.plan import PixelLimits, VisionGeometry

MAX_RATIO = 200  # of the sides of an image, as in the reference's smart_resize
MAX_FRAME_TOKENS = 768  # of one frame of a video, as in qwen-vl-utils
MAX_FRAMES = 768


def largest_image(limits: PixelLimits, geometry: VisionGeometry) -> tuple[int, int]:
    """Height and width, in pixels, of the image that costs the most tokens."""
    rows, columns = _most_tokens(limits.max_pixels // geometry.factor**2)
    return rows * geometry.factor, columns * geometry.factor


def largest_video(
    tokens: int, limits: PixelLimits, geometry: VisionGeometry
) -> tuple[int, int, int]:
    """Frames, height and width of a video that costs about ``tokens``, and never more.

    Frames are as large as ``limits`` and Qwen's bound on a frame let them be; where that would
    overshoot, all of them shrink alike.
    """
    frame_tokens = max(1, min(limits.max_pixels // geometry.factor**2, MAX_FRAME_TOKENS))
    grids = max(
        1, min(math.ceil(tokens / frame_tokens), MAX_FRAMES // geometry.temporal_patch_size)
    )
    rows, columns = _most_tokens(max(1, min(frame_tokens, tokens // grids)))
    return grids * geometry.temporal_patch_size, rows * geometry.factor, columns * geometry.factor


def _most_tokens(tokens: int) -> tuple[int, int]:
    """The two most even factors of the largest number up to ``tokens`` with a legal ratio."""
    for count in range(tokens, 0, -1):
        rows = next(row for row in range(math.isqrt(count), 0, -1) if count % row == 0)
        if count // rows <= MAX_RATIO * rows:
            return rows, count // rows
    raise ValueError("max_pixels leaves no room for a single token")
