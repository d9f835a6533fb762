r"""Rewrites boxes and points of an answer from resized to source pixels. Pure.

Places that are read, and nothing else (`LENGTHS` are the names):

- ``"bbox_2d": [x1, y1, x2, y2]`` in JSON, also where it stands escaped in a string
  (``\"bbox_2d\": [...]``) or in Python's quotes;
- ``"bbox_2d": "x1, y1, x2, y2"``: the same as text, with or without brackets;
- ``start_box='(x,y)'``, ``data-bbox="x1 y1 x2 y2"``: arguments of calls, attributes of HTML;
- ``<points x1="x" y1="y" x2="x" y2="y" alt="...">``;
- ``<|box_start|>(x1,y1),(x2,y2)<|box_end|>``, likewise ``point`` and ``quad``;
- ``<point>x y</point>`` and ``<bbox>x1 y1 x2 y2</bbox>``.

A tool's declared display (``display_width_px``) plays no part: Qwen2.5-VL points in pixels of the
image that it was shown, and Qwen's recipes declare that image's size.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from saccade.media.grounding.media_references import MediaReferenceTracker
from saccade.media.grounding.stream_rewriter import WHITE, Rule, TextRewriter, json_key
from saccade.media.planning.plan import ImagePlan, VideoPlan

LENGTHS: dict[str, tuple[int, ...]] = {
    "bbox_2d": (4,),  # Qwen's cookbooks
    "bbox": (4,),
    "data-bbox": (4,),
    "point_2d": (2,),
    "coordinate": (2,),  # of its computer-use tool
    "coordinate2": (2,),  # of its phone tool
    "coordinates2": (2,),
    "start_coordinate": (2,),  # of Anthropic's computer-use tool
    "start_box": (2, 4),  # UI-TARS
    "end_box": (2, 4),
    "point": (2,),
    "start_point": (2,),
    "end_point": (2,),
}
"""Names of boxes and points -> how many numbers they may have."""
_TAG_LENGTHS = (2, 4, 8)

_NUMBER = r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?"
_LIST = re.compile(rf"{WHITE}{_NUMBER}(?:{WHITE},{WHITE}{_NUMBER})*{WHITE}")
_TEXT = re.compile(rf"[\s\[(]*{_NUMBER}(?:[\s,\[\]()]+{_NUMBER})*[\s\])]*")
_LONGEST = 256  # four numbers, each on a line of its own in deeply indented JSON
_CLOSING = {"[": "]", "(": ")"}
_BRACKETS, _QUOTES = frozenset(_CLOSING), frozenset("\"'")

_NAMES = "|".join(LENGTHS)
_NAMED = rf"(?:{json_key(_NAMES)}|(?<![\w.-])(?P<name>{_NAMES})\s{{0,8}}=\s{{0,8}})"
_QUOTE = r"""(?P<opened>\\{0,7}["'])"""
_IN_LISTS = re.compile(r"[-+0-9.,eE \t\r\n\\nrt]*")
_IN_QUOTES = re.compile(r"[-+0-9.,()\[\] \t\r\n]*\\{0,7}")
_TAG = r"<(?:\|(?:box|quad|point)_start\||point|bbox)>"
_LISTED = re.compile(rf"{_NAMED}(?P<opened>[\[(])")
_QUOTED = re.compile(_NAMED + _QUOTE)
_TAGGED = re.compile(_TAG)
_ATTRIBUTE = re.compile(rf"(?<=\s)(?P<axis>[xy])[0-9]{{0,3}}\s{{0,8}}=\s{{0,8}}{_QUOTE}")
MARKS = re.compile(rf"{_NAMES}|{_TAG}|<points?\s", re.IGNORECASE)
"""Found in every text that has a box or a point."""
_POINTS = re.compile(r"points?\s", re.IGNORECASE)


def read_number(text: str) -> float | None:
    """A coordinate as JSON and HTML write it; None for what is not rewritten."""
    if not re.fullmatch(_NUMBER, text):
        return None
    return float(text) if "." in text else int(text)


def read_numbers(text: str) -> list[str]:
    """The coordinates of a text that is nothing but coordinates; else none."""
    return re.findall(_NUMBER, text) if _TEXT.fullmatch(text) else []


@dataclass(frozen=True)
class PixelScale:
    """From the image that the model was shown to the one that was sent. Sizes in pixels."""

    width: int
    height: int
    source_width: int  # EXIF-upright
    source_height: int

    @classmethod
    def of(cls, plan: ImagePlan | VideoPlan) -> "PixelScale":
        """The scale of a planned image, or of a planned video's frames."""
        return cls(plan.width, plan.height, plan.source_width, plan.source_height)

    def reversed(self) -> "PixelScale":
        """From the image that was sent to the one that the model was shown."""
        return PixelScale(self.source_width, self.source_height, self.width, self.height)

    def to_source(self, value: float, axis: int) -> float:
        """A coordinate along axis 0 (x) or 1 (y), within the source."""
        shown, sent = ((self.width, self.source_width), (self.height, self.source_height))[axis]
        return min(max(0.0, value * sent / shown), float(sent))

    def rewritten(self, number: str, axis: int) -> str:
        """A number as text: whole ones stay whole, others keep their decimals."""
        decimals = len(number.partition(".")[2])
        return f"{self.to_source(float(number), axis):.{decimals}f}"


def scales_of(plans: Sequence[ImagePlan | VideoPlan]) -> list[PixelScale | None]:
    """By place (`MediaReferences`); None: a list of frames of different sizes."""
    scales = [None if _frame_sizes(plan) else PixelScale.of(plan) for plan in plans]
    frames = [
        PixelScale(plan.width, plan.height, *size) for plan in plans for size in _frame_sizes(plan)
    ]
    return [*scales, *frames]


def _frame_sizes(plan: ImagePlan | VideoPlan) -> tuple[tuple[int, int], ...]:
    return plan.frame_sizes if isinstance(plan, VideoPlan) else ()


class CoordinateRewriter(TextRewriter):
    """Rewrites the coordinates of one text.

    With media of different scales, those count that the text names
    (``media/grounding/media_references.py``).

    Args:
        plans: of all images and videos, in the order of the prompt.
        back: from source to resized pixels instead.

    Attributes:
        undecided: boxes and points left as they were because it is open whose they are.
        unread: those left because they are not the numbers that belong there.
    """

    def __init__(self, plans: Sequence[ImagePlan | VideoPlan], back: bool = False) -> None:
        self._names = MediaReferenceTracker(plans)
        self._scales = scales_of(plans)
        if back:
            self._scales = [scale and scale.reversed() for scale in self._scales]
        self._single = len(set(self._scales)) == 1
        self._tag = ""  # what stands behind the last "<"
        self.undecided = 0
        self.unread = 0
        super().__init__(
            [
                Rule(_LISTED, _BRACKETS, _IN_LISTS, _LONGEST, self._listed),
                Rule(_QUOTED, _QUOTES, _IN_QUOTES, _LONGEST, self._quoted),
                Rule(_TAGGED, frozenset(">"), _IN_QUOTES, _LONGEST, self._tagged),
                Rule(_ATTRIBUTE, _QUOTES, _IN_QUOTES, _LONGEST, self._attribute),
            ],
            self._follow,
        )

    def _follow(self, text: str) -> None:
        if not self._single:
            self._names.feed(text)
        _, opened, after = text.rpartition("<")
        self._tag = after[:_LONGEST] if opened else (self._tag + after)[:_LONGEST]

    def _listed(self, opener: re.Match[str], numbers: str, ending: str) -> str | None:
        closed = ending == _CLOSING[opener["opened"]]
        if closed and not numbers.strip():
            return None
        lengths = LENGTHS[opener["key"] or opener["name"]]
        return self._mapped(
            opener, numbers, closed and _LIST.fullmatch(numbers) is not None, lengths
        )

    def _quoted(self, opener: re.Match[str], numbers: str, ending: str) -> str | None:
        if not any(map(str.isdigit, numbers)):
            return None
        lengths = LENGTHS[opener["key"] or opener["name"]]
        return self._mapped(opener, numbers, _in_quotes(opener, numbers, ending), lengths)

    def _tagged(self, opener: re.Match[str], numbers: str, ending: str) -> str | None:
        if not any(map(str.isdigit, numbers)):
            return None
        read = ending == "<" and _TEXT.fullmatch(numbers) is not None
        return self._mapped(opener, numbers, read, _TAG_LENGTHS)

    def _attribute(self, opener: re.Match[str], number: str, ending: str) -> str | None:
        if not _POINTS.match(self._tag) or ">" in self._tag:
            return None
        read = _in_quotes(opener, number, ending)
        return self._mapped(opener, number, read, (1,), "xy".index(opener["axis"]))

    def _mapped(
        self,
        opener: re.Match[str],
        numbers: str,
        read: bool,
        lengths: Sequence[int],
        axis: int = 0,
    ) -> str:
        """Numbers, x and y in turn, of a place that could be ``read``, if they are so many."""
        found = list(re.finditer(_NUMBER, numbers))
        if not read or len(found) not in lengths:
            self.unread += 1
            return numbers
        return self._to_source(opener, numbers, found, axis)

    def _to_source(
        self, opener: re.Match[str], numbers: str, found: Sequence[re.Match[str]], axis: int
    ) -> str:
        scale = self._scale()
        if scale is None:
            self.undecided += 1
            return numbers
        for place in range(len(found) - 1, -1, -1):
            start, end = found[place].span()
            number = scale.rewritten(found[place][0], (axis + place) % 2)
            numbers = numbers[:start] + number + numbers[end:]
        return numbers

    def _scale(self) -> PixelScale | None:
        if self._single:
            return self._scales[0]
        place = self._names.current()
        return None if place is None else self._scales[place]


def _in_quotes(opener: re.Match[str], numbers: str, ending: str) -> bool:
    """Whether there are numbers, and they end as they have begun."""
    escapes, quote = opener["opened"][:-1], opener["opened"][-1]
    bare = numbers.rstrip("\\")
    return numbers == bare + escapes and ending == quote and _TEXT.fullmatch(bare) is not None
