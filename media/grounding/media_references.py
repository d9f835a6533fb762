"""Tracks which image or video of several an answer refers to. Pure.

An object names an image by a key of its own that comes before the box, or by the key under which
the object or its list stands:

- ``"image": 2``, ``"image": "2"``, ``"picture": "Picture 2"``, ``"video": 1``: counted from one
  within their kind, as Qwen's chat template counts them ("Picture 2: ");
- ``"image_index": 0``, ``"picture_index"``, ``"video_index"``: counted from zero within their kind;
- ``{"image_2": [{"bbox_2d": ...}]}``: counted from one;
- HTML: ``<p data-image="2" data-bbox="...">``, counted from one, likewise before the box;
- ``"frame": 2``, ``"frame_index": 1``, ``{"frame_2": [...]}``: one of a list of frames of different
  sizes, where there is one such list, or where the object has named it before (``"video": 1``).

What stands inside an object that names none belongs to the object around it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from saccade.media.planning.plan import ImagePlan, VideoPlan

_KEY = re.compile(r"(image|picture|video|frame)(_index)?")
_NAME = re.compile(r"(image|picture|video|frame)[ _]?([0-9]{1,4})", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]{1,4}")
_TAG = re.compile(r"<[^<>]*\sdata-(image|video)=\\*[\"']?([0-9]{1,4})\b[^<>]*")
_LONGEST_NAME = 64  # characters of a string that are looked at
_LONGEST_TAG = 512


class MediaReferences:
    """Resolves names such as ``image_2`` to places.

    A place is a position of a medium in the prompt. Behind all of them come, one after the other,
    the frames of those lists that hold frames of different sizes.
    """

    def __init__(self, plans: Sequence[ImagePlan | VideoPlan]) -> None:
        self._places: dict[str, list[int]] = {"image": [], "video": []}
        self._frames: dict[int, range] = {}  # place of a list -> places of its frames
        end = len(plans)
        for place, plan in enumerate(plans):
            self._places["image" if isinstance(plan, ImagePlan) else "video"].append(place)
            if isinstance(plan, VideoPlan) and plan.frame_sizes:
                self._frames[place] = range(end, end := end + len(plan.frame_sizes))

    def medium(self, place: int | None) -> int | None:
        """The medium at a place, or that the frame there belongs to."""
        return next((at for at, frames in self._frames.items() if place in frames), place)

    def container(self, key: str | None, place: int | None = None) -> int | None:
        """The place that a key names by itself, such as ``image_2``, in an object of ``place``."""
        named = _NAME.fullmatch(key or "")
        return self._at(named[1], int(named[2]) - 1, place) if named else None

    def inside(self, place: int | None, key: str | None, value: object) -> int | None:
        """The place that an object names once it has this key; ``place`` before."""
        kind = _KEY.fullmatch(key or "")
        if kind is None or (kind[1] == "frame" and not self._frames):
            return place
        named = None
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            value = int(value)
        if type(value) is int:  # not a bool
            named = self._at(kind[1], value if kind[2] else value - 1, place)
        elif isinstance(value, str) and not kind[2]:
            named = self.container(value, place)
        return place if named == self.medium(place) else named  # a frame, and then its video

    def tag(self, before: str) -> int | None:
        """The medium that an HTML tag names which has not ended at the end of this text."""
        named = _TAG.search(before)
        if named is None or named.end() != len(before):
            return None
        return self._at(named[1], int(named[2]) - 1, None)

    def _at(self, kind: str, index: int, place: int | None) -> int | None:
        """The place of this number, from zero, within its kind."""
        kind = kind.lower()
        if kind == "frame":
            only = [*self._frames] if len(self._frames) == 1 else []
            medium = self.medium(place)
            lists = [medium] if medium in self._frames else only
            places = [at for each in lists if each is not None for at in self._frames[each]]
        else:
            places = self._places["video" if kind == "video" else "image"]
        return places[index] if 0 <= index < len(places) else None


@dataclass
class _Container:
    medium: int | None
    key: str | None = None  # of the value that comes next


class MediaReferenceTracker:
    """Follows the JSON and the HTML of a text to tell whose box comes next.

    Prose between is followed as well as it goes: a string ends with its line at the latest.
    """

    def __init__(self, plans: Sequence[ImagePlan | VideoPlan]) -> None:
        self._names = MediaReferences(plans)
        self._stack: list[_Container] = []
        self._string: list[str] | None = None  # of the string that is being read
        self._escaped = False
        self._scalar = ""  # what was read last: a string's content or the digits of a number
        self._was_string = False
        self._tail = ""

    def feed(self, text: str) -> None:
        """Takes the next piece of the text."""
        self._tail = (self._tail + text)[-_LONGEST_TAG:]
        for character in text:
            if self._string is None:
                self._outside(character)
            else:
                self._inside(character, self._string)

    def current(self) -> int | None:
        """The place of the medium that a box belongs to which begins here."""
        named = self._names.tag(self._tail)
        if named is not None:
            return named
        return self._stack[-1].medium if self._stack else None

    def _inside(self, character: str, string: list[str]) -> None:
        if character == "\n" or (character == '"' and not self._escaped):
            self._scalar, self._was_string, self._string = "".join(string), True, None
            return
        self._escaped = character == "\\" and not self._escaped
        if len(string) < _LONGEST_NAME:
            string.append(character)

    def _outside(self, character: str) -> None:
        top = self._stack[-1] if self._stack else None
        if character == '"':
            self._string, self._escaped = [], False
        elif character in "{[":
            inherited = top.medium if top else None
            named = self._names.container(top.key, top.medium) if top else None
            self._stack.append(_Container(inherited if named is None else named))
            self._scalar = ""
        elif character in "}]":
            if self._stack:
                self._stack.pop()
            self._scalar = ""
        elif character == ":":
            if top and self._was_string:
                top.key = self._scalar
            self._scalar, self._was_string = "", False
        elif character == ",":
            if top:
                self._end_value(top)
            self._scalar, self._was_string = "", False
        elif not character.isspace():
            if self._was_string:
                self._scalar, self._was_string = "", False
            if len(self._scalar) < _LONGEST_NAME:
                self._scalar += character

    def _end_value(self, top: _Container) -> None:
        value: object = self._scalar
        if not self._was_string:
            value = int(self._scalar) if _NUMBER.fullmatch(self._scalar) else None
        top.medium = self._names.inside(top.medium, top.key, value)
        top.key = None
