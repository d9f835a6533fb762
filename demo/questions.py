"""What `saccade demo` asks: each kind of question that the bundled model knows, and the answer."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saccade.demo.world.answers import boxes_agree

_MEDIA = Path(__file__).with_name("media")
_NUMBER = re.compile(r"\d+")
_NEAR = 10  # pixels, of a thing of 29


@dataclass(frozen=True)
class Medium:
    """An image or video of the demo."""

    kind: str  # also the name of the content part and of the usage field
    file: Path
    media_type: str
    controls: Mapping[str, float] = field(default_factory=dict)  # Qwen's, beside the part

    def part(self) -> dict[str, Any]:
        """As a part of a message, with its content in a data: URL."""
        encoded = base64.b64encode(self.file.read_bytes()).decode("ascii")
        part = f"{self.kind}_url"
        url = f"data:{self.media_type};base64,{encoded}"
        return {"type": part, part: {"url": url}, **self.controls}


@dataclass(frozen=True)
class Question:
    """One request and the right answer.

    Attributes:
        turns: of the user and the model by turns; the user's last one is the question.
        answer: as text; of a call, its name and arguments.
        fields: of the request, beside its messages.
    """

    turns: tuple[tuple[Medium | str, ...], ...]
    answer: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The last text of the user."""
        return next(part for part in reversed(self.turns[-1]) if isinstance(part, str))

    def is_right(self, answer: str) -> bool:
        """Whether it is this answer; boxes and places may be a little off."""
        if self.answer.startswith('[{"bbox_2d"'):
            return boxes_agree(answer, self.answer)
        if _NUMBER.sub("", answer) != _NUMBER.sub("", self.answer) or "coordinate" not in answer:
            return answer == self.answer
        places = zip(_NUMBER.findall(answer), _NUMBER.findall(self.answer), strict=True)
        return all(abs(int(said) - int(right)) <= _NEAR for said, right in places)

    def messages(self) -> list[dict[str, Any]]:
        """As OpenAI's API takes them."""
        messages: list[dict[str, Any]] = []
        for number, turn in enumerate(self.turns):
            parts = [
                {"type": "text", "text": part} if isinstance(part, str) else part.part()
                for part in turn
            ]
            if number % 2:
                (said,) = turn
                messages.append({"role": "assistant", "content": said})
            else:
                messages.append({"role": "user", "content": parts})
        return messages

    def told(self) -> list[str]:
        """The conversation in lines: files, questions and answers."""
        lines = []
        for number, turn in enumerate(self.turns):
            for part in turn:
                if isinstance(part, Medium):
                    lines.append(f"{part.kind}: {part.file.name}")
                else:
                    lines.append(part if number % 2 else f"> {part}")
        return lines


def _object(**properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


SHAPES = Medium("image", _MEDIA / "shapes.jpg", "image/jpeg")
SIGN = Medium("image", _MEDIA / "sign.jpg", "image/jpeg")
EVENTS = Medium(
    *("video", _MEDIA / "events.mp4", "video/mp4"),
    # Its own size: frames are enlarged to at least 128 tokens unless a request says otherwise.
    {"fps": 2.0, "resized_width": 140, "resized_height": 112},
)
_COLOUR = _object(colour={"type": "string", "enum": ["red", "green", "blue"]})
_CLICK = _object(
    action={"type": "string", "enum": ["left_click", "double_click"]},
    coordinate={"type": "array", "description": "(x, y) in pixels"},
)
_COMPUTER = {
    "name": "computer_use",
    "description": "Use a mouse to interact with a computer. The screen is 224x168.",
    "parameters": _CLICK,
}
GROUNDING = Question(
    ((SHAPES, "Locate the yellow triangle."),),
    '[{"bbox_2d": [27, 35, 56, 63], "label": "yellow triangle"}]',
)
CALL = Question(
    ((SHAPES, "Click the yellow triangle."),),
    'computer_use {"action": "left_click", "coordinate": [42, 49]}',
    {"tools": [{"type": "function", "function": _COMPUTER}]},
)
QUESTIONS = (
    Question(((SHAPES, "What colour is the star?"),), "green"),
    GROUNDING,
    Question(((SIGN, "Read the text."),), "OPEN"),
    Question(((EVENTS, "At what second does the blue square leave?"),), "00:04"),
    Question((("What colour is the star?", SHAPES),), "green"),
    Question(((SHAPES, SIGN, "What does the text in the second image say?"),), "OPEN"),
    Question(
        ((SHAPES, "What colour is the star?"), ("green",), ("And the triangle?",)),
        "yellow",
    ),
    Question(
        ((SHAPES, 'What colour is the star? Answer in JSON with the key "colour".'),),
        '{"colour": "green"}',
    ),
    Question(
        ((SHAPES, "What colour is the star?"),),
        '{"colour":"green"}',
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "seen", "schema": _COLOUR, "strict": True},
            }
        },
    ),
    Question(((SHAPES, "What colour is the circle?"),), "none"),
    CALL,
)
