"""What `saccade bench overload` sends: questions whose right answers are known.

Every request must come back with what the same request is answered on an idle server; of images
and videos only those are sent whose answer there is the right one.
"""

import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

from PIL import Image

from saccade.demo.evaluation.cases import Case, make_cases
from saccade.demo.evaluation.requests import request

Kind = Literal["text", "small", "large", "clip"]
KINDS: tuple[Kind, ...] = ("text", "small", "large", "clip")

_FIGURES = {"small": ("colour_kind", "reading"), "large": ("boxes",), "clip": ("event_time",)}
_SMALL_SIDES = (448, 448)
_LARGE_SIDES = (4000, 3000)
_TEXT_TOKENS = 16
_MOST_TOKENS = 64
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class Question:
    """One request, and how its answer is told to be right."""

    kind: Kind
    body: bytes
    case: Case | None  # None: text
    expected: str = ""  # what an idle server says
    prompt_tokens: int = 0  # likewise

    def right(self, text: str, prompt_tokens: int | None) -> bool:
        """Whether this answers this very request."""
        if prompt_tokens != self.prompt_tokens:
            return False
        return text == self.expected or (self.case is not None and self.case.score(text) == 1)

    def known(self, text: str, prompt_tokens: int) -> "Question | None":
        """With the answer of an idle server; None if that is wrong already."""
        if self.case is not None and not self.case.score(text):
            return None
        return replace(self, expected=text, prompt_tokens=prompt_tokens)


def make_questions(model: str, each: int, seed: int) -> list[Question]:
    """So many questions of each kind, by turns."""
    by_figure: dict[str, list[Case]] = {}
    for case in make_cases(seed, each):
        by_figure.setdefault(case.figure, []).append(case)
    with ThreadPoolExecutor() as pool:
        columns: list[list[Question]] = [[_text(model, number) for number in range(each)]]
        for kind in KINDS[1:]:
            cases = [case for figure in _FIGURES[kind] for case in by_figure[figure]]
            columns.append(list(pool.map(lambda case, k=kind: _ask(model, k, case), cases[-each:])))
    return [question for row in zip(*columns, strict=True) for question in row]


def _text(model: str, number: int) -> Question:
    # Each of another length: usage tells them apart.
    content = f"Number {number}:" + " and so on" * number
    more: dict[str, object] = {"max_tokens": _TEXT_TOKENS, "ignore_eos": True}
    return Question("text", _body(model, content, more), None)


def _ask(model: str, kind: Kind, case: Case) -> Question:
    content: Any = request(case.conversation)["messages"][-1]["content"]
    if kind != "clip":
        content = [_enlarged(case, kind), *content[1:]]
    return Question(kind, _body(model, content, {"max_tokens": _MOST_TOKENS}), case)


def _enlarged(case: Case, kind: Kind) -> dict[str, object]:
    """The image as a camera or a screen would send it, shown as the model knows it."""
    example = case.medium.example
    _, height, width, _ = example.raster.shape
    sides = _SMALL_SIDES if kind == "small" else _LARGE_SIDES
    assert example.source is not None
    source = Image.fromarray(example.source)
    buffer = io.BytesIO()
    source.resize(sides, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    url = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    return {
        "type": "image_url",
        "image_url": {"url": url},
        "resized_width": width,
        "resized_height": height,
    }


def _body(model: str, content: object, more: dict[str, object]) -> bytes:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        **more,
    }
    return json.dumps(body).encode()
