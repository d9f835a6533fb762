"""Smart resize: the size to which an image or frame is resized. Pure arithmetic.

The results equal those of qwen-vl-utils 0.0.14 (`vision_process.py`), rounding included.
"""

import math

from saccade.media.controls import ImageControls, VideoControls
from saccade.media.errors import ControlError, DecodeError

MAX_ASPECT_RATIO = 200

# Defaults of qwen-vl-utils, in merged tokens: one token is factor x factor pixels.
IMAGE_MIN_TOKENS = 4
IMAGE_MAX_TOKENS = 16_384


def smart_resize(
    height: int, width: int, factor: int, min_pixels: float, max_pixels: float
) -> tuple[int, int]:
    """The nearest size with sides divisible by ``factor`` and area within the limits.

    Args:
        height, width: of the source, pixels, at least 1.
        factor: pixels along one merged token.
        min_pixels, max_pixels: area limits. The side of ``factor`` is the least there is, so a
            minimum rounded up may exceed ``max_pixels``, as in the reference.

    Returns:
        (height, width), each a positive multiple of ``factor``.

    Raises:
        DecodeError: aspect ratio above 200.
        ControlError: ``min_pixels`` above ``max_pixels``, or a ``max_pixels`` so small that the
            shorter side would vanish.
    """
    if min_pixels > max_pixels:
        raise ControlError(
            f"max_pixels is {max_pixels:.0f}, below min_pixels, which is {min_pixels:.0f}",
            "max_pixels",
        )
    ratio = max(height, width) / min(height, width)
    if ratio > MAX_ASPECT_RATIO:
        raise DecodeError(
            f"{width} x {height} pixels: an aspect ratio of {ratio:.1f} exceeds {MAX_ASPECT_RATIO}"
        )
    # Python's round() goes to the even neighbour at .5, here and in the reference.
    new_height = max(factor, round(height / factor) * factor)
    new_width = max(factor, round(width / factor) * factor)
    if new_height * new_width > max_pixels:
        shrink = math.sqrt((height * width) / max_pixels)
        new_height = math.floor(height / shrink / factor) * factor
        new_width = math.floor(width / shrink / factor) * factor
    elif new_height * new_width < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        new_height = math.ceil(height * grow / factor) * factor
        new_width = math.ceil(width * grow / factor) * factor
    if new_height == 0 or new_width == 0:
        raise ControlError(
            f"max_pixels of {max_pixels:.0f} leaves nothing of {width} x {height} pixels",
            "max_pixels",
        )
    return new_height, new_width


def resized_size(
    height: int,
    width: int,
    factor: int,
    min_pixels: float,
    max_pixels: float,
    controls: ImageControls | VideoControls,
) -> tuple[int, int]:
    """The size that the controls ask for, or else smart_resize's within these limits.

    An explicit size is held to the reference's default limits, not to the checkpoint's. Errors name
    the limit that the caller gave, not a default of ours.
    """
    if controls.resized_width is not None and controls.resized_height is not None:
        area = factor * factor
        least, most = IMAGE_MIN_TOKENS * area, IMAGE_MAX_TOKENS * area
        size = controls.resized_height, controls.resized_width
        try:
            return smart_resize(*size, factor, least, most)
        except DecodeError as error:
            message = f"resized_width and resized_height: {error}"
            raise ControlError(message, "resized_width") from None
    try:
        return smart_resize(height, width, factor, min_pixels, max_pixels)
    except ControlError as error:
        if controls.max_pixels is None:
            error.param = None if controls.min_pixels is None else "min_pixels"
        raise
