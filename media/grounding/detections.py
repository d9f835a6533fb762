"""Parses the boxes and points of an answer. Pure."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser

from saccade.media.grounding.coordinates import LENGTHS, PixelScale, read_number
from saccade.media.grounding.media_references import MediaReferences
from saccade.media.planning.plan import ImagePlan, VideoPlan

_JSON_START = re.compile(r"[{\[]")
_MARKS = (*(f'{key}"' for key in LENGTHS), *(f'{key}\\"' for key in LENGTHS), "data-bbox")
# Each failed attempt may read all that is left of the text.
_MAX_FAILURES = 64
_LABELS = ("label", "text_content")


@dataclass(frozen=True)
class Detection:
    """A box ``(x1, y1, x2, y2)`` or a point ``(x, y)`` in pixels of its image.

    ``medium`` is its place among the media of the prompt, from zero; None where media of the same
    scale leave it open.
    """

    label: str | None
    numbers: tuple[float, ...]
    medium: int | None


class DetectionReader:
    """Reads rewritten answers of one request.

    What cannot be told apart by name while media differ in scale is left out, as its numbers were
    not rewritten either (``CoordinateRewriter``).

    Args:
        plans: of all images and videos, in the order of the prompt.
    """

    def __init__(self, plans: Sequence[ImagePlan | VideoPlan]) -> None:
        self._names = MediaReferences(plans)
        self._only = 0 if len(plans) == 1 else None
        self._alike = len({PixelScale.of(plan) for plan in plans}) == 1

    def read(self, text: str) -> list[Detection]:
        """The detections of a text, JSON first, in the order in which they stand."""
        detections = self._in_text(text, self._only)
        return [each for each in detections if each.medium is not None or self._alike]

    def _in_text(self, text: str, medium: int | None) -> Iterator[Detection]:
        if not any(mark in text for mark in _MARKS):
            return
        rest: list[str] = []  # what is not JSON
        for value in _json_values(text, rest):
            yield from self._in_json(value, medium)
        yield from self._in_html("\n".join(rest), medium)

    def _in_json(self, value: object, medium: int | None) -> Iterator[Detection]:
        if isinstance(value, str):
            yield from self._in_text(value, medium)
        elif isinstance(value, list):
            for item in value:
                yield from self._in_json(item, medium)
        elif isinstance(value, dict):
            label = next((value[key] for key in _LABELS if isinstance(value.get(key), str)), None)
            for key, item in value.items():
                numbers = _numbers(item, LENGTHS.get(key))
                if numbers is not None:
                    yield Detection(label, numbers, medium)
                    continue
                named = self._names.container(key)
                yield from self._in_json(item, medium if named is None else named)
                if self._only is None:
                    medium = self._names.inside(medium, key, item)

    def _in_html(self, text: str, medium: int | None) -> Iterator[Detection]:
        if "data-bbox" not in text:
            return
        parser = _BoxParser()
        parser.feed(text)
        parser.close()
        for label, numbers, tag in parser.boxes:
            named = self._names.tag(tag)
            yield Detection(label, numbers, medium if named is None else named)


class _BoxParser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.boxes: list[tuple[str, tuple[float, ...], str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        box = attributes.get("data-bbox") or ""
        numbers = _numbers([read_number(number) for number in box.split()], 4)
        if numbers is not None:
            before = (self.get_starttag_text() or "").partition("data-bbox")[0]
            self.boxes.append((attributes.get("class") or tag, numbers, before))


def _numbers(value: object, length: int | None) -> tuple[float, ...] | None:
    if not isinstance(value, list) or len(value) != length:
        return None
    if not all(
        isinstance(number, int | float) and not isinstance(number, bool) for number in value
    ):
        return None
    return tuple(value)


def _json_values(text: str, rest: list[str]) -> Iterator[object]:
    """The JSON objects and arrays in a text; what stands around them goes to ``rest``."""
    decoder = json.JSONDecoder(parse_int=read_number, parse_float=read_number)
    position = passed = failures = 0
    while failures < _MAX_FAILURES and (start := _JSON_START.search(text, position)):
        try:
            value, end = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            failures += 1
            position = start.end()
            continue
        rest.append(text[passed : start.start()])
        position = passed = end
        yield value
    rest.append(text[passed:])
