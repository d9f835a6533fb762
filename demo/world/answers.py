"""How Qwen2.5-VL writes boxes and moments, read and written; and when two boxes agree."""

import json
from collections.abc import Sequence


def mm_ss(second: int) -> str:
    """Seconds as Qwen writes a moment, e.g. ``00:07``."""
    return f"{second // 60:02d}:{second % 60:02d}"


def seconds_of(moment: str) -> int:
    """The inverse of `mm_ss`."""
    minutes, seconds = moment.split(":")
    return 60 * int(minutes) + int(seconds)


def boxes_of(answer: str) -> list[list[float]]:
    """The boxes that an answer names; none if it is not what Qwen2.5-VL writes."""
    try:
        found = [item["bbox_2d"] for item in json.loads(answer)]
    except (ValueError, TypeError, KeyError):
        return []
    if all(isinstance(box, list) and len(box) == 4 for box in found):
        return found
    return []


def iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes (x1, y1, x2, y2)."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def boxes_agree(answer: str, expected: str, least: float = 0.5) -> bool:
    """Whether there are as many boxes as expected and each overlaps its own by ``least`` IoU."""
    said, right = boxes_of(answer), boxes_of(expected)
    return len(said) == len(right) and all(
        iou(one, other) >= least for one, other in zip(said, right, strict=True)
    )
