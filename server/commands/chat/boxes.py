"""Boxes and points of an answer, drawn on the image that they are about."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

_RADIUS = 4  # pixels, of a point
_LABEL = 60  # characters at most


@dataclass(frozen=True)
class Mark:
    """A box ``(x1, y1, x2, y2)`` or a point ``(x, y)`` in pixels of the upright image."""

    numbers: tuple[float, ...]
    label: str


def marks_told(vision: Mapping[str, object], place: int) -> list[Mark]:
    """The marks in a Saccade's report that lie in one image, or may.

    Args:
        vision: the answer's ``vision``.
        place: of the image among all images and videos of the request, from 0.
    """
    detections = vision.get("detections")
    marks = []
    for one in detections if isinstance(detections, list) else ():
        if not isinstance(one, dict):
            continue
        numbers = _numbers(one.get("bbox_2d") or one.get("point_2d"))
        if numbers and one.get("image") in (None, place):
            marks.append(Mark(numbers, str(one.get("label") or "")))
    return marks


def marks_read(answer: str, size: tuple[int, int]) -> list[Mark]:
    """The marks in an answer as the model wrote them, on an image of (width, height) pixels."""
    from saccade.media.grounding.detections import DetectionReader
    from saccade.media.planning.plan import ImagePlan

    plan = ImagePlan(*size, *size, grid=(1, 1, 1), tokens=1)
    return [Mark(one.numbers, one.label or "") for one in DetectionReader([plan]).read(answer)]


def draw_marks(image: Image.Image, marks: Iterable[Mark], path: Path) -> None:
    """Write the image with the marks as a PNG.

    Raises:
        OSError: it cannot be written.
    """
    drawn = image.copy()
    pen = ImageDraw.Draw(drawn)
    width = max(2, min(drawn.size) // 300)
    for mark in marks:
        xs = [_within(x, drawn.width) for x in mark.numbers[0::2]]
        ys = [_within(y, drawn.height) for y in mark.numbers[1::2]]
        if len(xs) == 1:
            around = (xs[0] - _RADIUS, ys[0] - _RADIUS, xs[0] + _RADIUS, ys[0] + _RADIUS)
            pen.ellipse(around, fill="red", outline="white")
        else:
            pen.rectangle((min(xs), min(ys), max(xs), max(ys)), outline="red", width=width)
        label = "".join(filter(str.isprintable, mark.label))[:_LABEL]
        if label:
            where = (min(xs) + width + 2, min(ys) + width)
            pen.text(where, label, fill="red", stroke_width=1, stroke_fill="white")
    drawn.save(path, "PNG")


def _within(value: float, end: int) -> float:
    return min(max(0.0, value), float(end - 1))


def _numbers(value: object) -> tuple[float, ...]:
    """The numbers of a box or a point; empty for anything else."""
    if not isinstance(value, list) or len(value) not in (2, 4):
        return ()
    return tuple(value) if all(isinstance(number, int | float) for number in value) else ()
