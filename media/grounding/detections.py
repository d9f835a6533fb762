"""Parses the boxes and points of an answer. Pure."""

import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from saccade.media.grounding.coordinates import (
    LENGTHS,
    MARKS,
    CoordinateRewriter,
    read_number,
    read_numbers,
    scales_of,
)
from saccade.media.grounding.media_references import MediaReferences
from saccade.media.planning.plan import ImagePlan, VideoPlan

_JSON_START = re.compile(r"[{\[]")
# Labels outside JSON: in front of a box's tag, behind a box in Python's quotes, in a tag of HTML.
_REFERENCE = re.compile(r"<\|object_ref_start\|>([^<]{0,256})<\|object_ref_end\|>\s*<[^<]*\Z")
_BEHIND = re.compile(r"\W{1,4},\s*'(?:label|text_content)'\s*:\s*'([^'\n]{0,256})'")
_ATTRIBUTE = re.compile(r"""\s(?:alt|class)\s*=\s*(["'])(.*?)\1""", re.DOTALL)
_ELEMENT = re.compile(r"<(\w{1,32})\s")
_LOOKED_BACK = 512  # characters
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
        self._plans = plans
        self._names = MediaReferences(plans)
        self._scales = scales_of(plans)
        self._only = 0 if len(self._scales) == 1 else None
        self._alike = len(set(self._scales)) == 1

    def read(self, text: str) -> list[Detection]:
        """The detections of a text, JSON first, in the order in which they stand."""
        detections = self._in_text(text, self._only)
        return [
            dataclasses.replace(each, medium=self._names.medium(each.medium))
            for each in detections
            if self._alike or (each.medium is not None and self._scales[each.medium] is not None)
        ]

    def _in_text(self, text: str, medium: int | None) -> Iterator[Detection]:
        if not MARKS.search(text):
            return
        rest: list[str] = []  # what is not JSON
        for value in _json_values(text, rest):
            yield from self._in_json(value, medium)
        prose = _ProseReader(self._plans)
        prose.feed("\n".join(rest))
        prose.close()
        for label, numbers, before in prose.detections():
            named = self._names.tag(before)
            yield Detection(label, numbers, medium if named is None else named)

    def _in_json(self, value: object, medium: int | None) -> Iterator[Detection]:
        if isinstance(value, str):
            yield from self._in_text(value, medium)
        elif isinstance(value, list):
            for item in value:
                yield from self._in_json(item, medium)
        elif isinstance(value, dict):
            label = next((value[key] for key in _LABELS if isinstance(value.get(key), str)), None)
            for key, item in value.items():
                numbers = _numbers(item, LENGTHS.get(key, ()))
                if numbers is not None:
                    yield Detection(label, numbers, medium)
                    continue
                named = self._names.container(key, medium)
                yield from self._in_json(item, medium if named is None else named)
                if self._only is None:
                    medium = self._names.inside(medium, key, item)


class _ProseReader(CoordinateRewriter):
    """Finds what the rewriter rewrites outside JSON."""

    def __init__(self, plans: Sequence[ImagePlan | VideoPlan]) -> None:
        super().__init__(plans)
        self._text = ""
        self._found: list[tuple[dict[str, str | None], str, int]] = []  # opener, numbers, place
        self._labels: dict[int, str | None] = {}  # of tags, by place

    def _follow(self, text: str) -> None:
        super()._follow(text)
        self._text += text

    def _to_source(
        self, opener: re.Match[str], numbers: str, found: Sequence[re.Match[str]], axis: int
    ) -> str:
        self._found.append((opener.groupdict(), numbers.rstrip("\\"), len(self._text)))
        return numbers

    def detections(self) -> Iterator[tuple[str | None, tuple[float, ...], str]]:
        """(label, numbers, some of the text before them)."""
        x = ""
        for opener, text, place in self._found:
            if opener.get("axis") == "x":
                x = text
                continue
            numbers = _numbers(f"{x} {text}" if opener.get("axis") else text, (2, 4))
            if numbers is not None and not (opener.get("quote") or "").endswith('"'):
                yield self._label(opener, place, place + len(text)), numbers, self._before(place)

    def _before(self, place: int) -> str:
        return self._text[max(0, place - _LOOKED_BACK) : place]

    def _label(self, opener: dict[str, str | None], start: int, end: int) -> str | None:
        if opener.get("axis") or opener.get("name") == "data-bbox":
            place = self._text.rfind("<", 0, start)
            if place not in self._labels:  # else: another point of the same tag
                tag = self._text[place : self._text.find(">", end)]
                labelled, element = _ATTRIBUTE.search(tag), _ELEMENT.match(tag)
                name = element[1] if element and opener.get("name") else None
                self._labels[place] = labelled[2] if labelled else name
            return self._labels[place]
        labelled = _REFERENCE.search(self._before(start)) or _BEHIND.match(self._text, end)
        return labelled[1] if labelled else None


def _numbers(value: object, lengths: Sequence[int]) -> tuple[float, ...] | None:
    if isinstance(value, str):
        value = [read_number(number) for number in read_numbers(value)]
    if not isinstance(value, list) or len(value) not in lengths:
        return None
    if not all(
        isinstance(number, int | float) and not isinstance(number, bool) for number in value
    ):
        return None
    return tuple(value)


def _json_values(text: str, rest: list[str]) -> Iterator[object]:
    """The JSON objects and arrays in a text; what stands around them goes to ``rest``.

    So do arrays of numbers alone: whose they are is said before them.
    """
    decoder = json.JSONDecoder(parse_int=read_number, parse_float=read_number)
    position = passed = failures = 0
    while failures < _MAX_FAILURES and (start := _JSON_START.search(text, position)):
        try:
            value, end = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            failures += 1
            position = start.end()
            continue
        position = end
        if isinstance(value, list) and not any(
            isinstance(each, dict | list | str) for each in value
        ):
            continue
        rest.append(text[passed : start.start()])
        passed = end
        yield value
    rest.append(text[passed:])
