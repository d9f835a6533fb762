r"""Rewrites boxes and points of an answer from resized to source pixels. Pure.

Places that are read, and nothing else:

- JSON: ``"bbox_2d": [x1, y1, x2, y2]``, ``"point_2d": [x, y]``, and ``"coordinate": [x, y]`` of
  Qwen's computer-use tool (``"coordinate2"`` of its phone tool), also where the JSON stands
  escaped in a string: ``\"bbox_2d\": [...]``.
- HTML: ``data-bbox="x1 y1 x2 y2"``.

A tool's declared display (``display_width_px``) plays no part: Qwen2.5-VL points in pixels of the
image that it was shown, and Qwen's recipes declare that image's size.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from saccade.media.grounding.media_references import MediaReferenceTracker
from saccade.media.grounding.stream_rewriter import WHITE, Rule, TextRewriter, json_key
from saccade.media.planning.plan import ImagePlan, VideoPlan

LENGTHS = {"bbox_2d": 4, "point_2d": 2, "coordinate": 2, "coordinate2": 2}
"""JSON keys of boxes and points -> how many numbers they have."""

_NUMBER = r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?"
_SEPARATOR = rf"{WHITE},{WHITE}"
_LISTS = {
    length: re.compile(rf"{WHITE}{_NUMBER}(?:{_SEPARATOR}{_NUMBER}){{{length - 1}}}{WHITE}")
    for length in set(LENGTHS.values())
}
_HTML_BOX = re.compile(rf"[ \t\r\n]*{_NUMBER}(?:[ \t\r\n]+{_NUMBER}){{3}}[ \t\r\n]*")
_LONGEST = 256  # four numbers, each on a line of its own in deeply indented JSON


def read_number(text: str) -> float | None:
    """A coordinate as JSON and HTML write it; None for what is not rewritten."""
    if not re.fullmatch(_NUMBER, text):
        return None
    return float(text) if "." in text else int(text)


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

    def to_source(self, value: float, axis: int) -> float:
        """A coordinate along axis 0 (x) or 1 (y), within the source."""
        shown, sent = ((self.width, self.source_width), (self.height, self.source_height))[axis]
        return min(max(0.0, value * sent / shown), float(sent))

    def rewritten(self, number: str, axis: int) -> str:
        """A number as text: whole ones stay whole, others keep their decimals."""
        decimals = len(number.partition(".")[2])
        return f"{self.to_source(float(number), axis):.{decimals}f}"


class CoordinateRewriter(TextRewriter):
    """Rewrites the coordinates of one text.

    With media of different scales, those count that the text names
    (``media/grounding/media_references.py``).

    Args:
        plans: of all images and videos, in the order of the prompt.

    Attributes:
        undecided: boxes and points left as they were because it is open whose they are.
        unread: those left because they are not the numbers that belong there.
    """

    def __init__(self, plans: Sequence[ImagePlan | VideoPlan]) -> None:
        self._scales = [PixelScale.of(plan) for plan in plans]
        self._naming = None if len(set(self._scales)) == 1 else MediaReferenceTracker(plans)
        self.undecided = 0
        self.unread = 0
        names = "|".join(LENGTHS)
        json_list = Rule(
            re.compile(json_key(names) + r"\["),
            re.compile(r"[-+0-9.,eE \t\r\n\\nrt]*"),
            _LONGEST,
            self._json_list,
        )
        html_box = Rule(
            re.compile(r"(?<=\s)data-bbox\s{0,8}=\s{0,8}(?P<quote>\\{0,7}[\"'])"),
            re.compile(r"[-+0-9. \t\r\n]*\\{0,7}"),
            _LONGEST,
            self._html_box,
        )
        super().__init__([json_list, html_box], self._naming.feed if self._naming else None)

    def _json_list(self, opener: re.Match[str], numbers: str, ending: str) -> str:
        if ending == "]" and not numbers.strip():
            return numbers
        right = _LISTS[LENGTHS[opener["key"]]]
        return self._mapped(numbers, ending == "]" and right.fullmatch(numbers) is not None)

    def _html_box(self, opener: re.Match[str], numbers: str, ending: str) -> str:
        escapes, quote = opener["quote"][:-1], opener["quote"][-1]
        bare = numbers.removesuffix(escapes)
        closed = ending == quote and len(numbers) == len(bare) + len(escapes)
        if closed and not bare.strip():
            return numbers
        return self._mapped(numbers, closed and _HTML_BOX.fullmatch(bare) is not None)

    def _mapped(self, numbers: str, read: bool) -> str:
        if not read:
            self.unread += 1
            return numbers
        scale = self._scale()
        if scale is None:
            self.undecided += 1
            return numbers
        found = list(re.finditer(_NUMBER, numbers))
        for place in range(len(found) - 1, -1, -1):
            start, end = found[place].span()
            numbers = numbers[:start] + scale.rewritten(found[place][0], place % 2) + numbers[end:]
        return numbers

    def _scale(self) -> PixelScale | None:
        if self._naming is None:
            return self._scales[0]
        medium = self._naming.current()
        return None if medium is None else self._scales[medium]
