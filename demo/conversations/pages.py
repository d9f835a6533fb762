"""Pages of a few printed words, answered as QwenVL HTML."""

import re

import numpy as np

from saccade.demo.conversations.facts import Fact
from saccade.demo.world.answers import iou
from saccade.demo.world.questions import SeenText
from saccade.demo.world.scenes import Box

QUESTIONS = (
    "QwenVL HTML",
    "Convert the page to QwenVL HTML.",
    "Read the page as HTML with data-bbox.",
    "Parse this document to HTML with bounding boxes.",
)
MOST_WORDS = 4
_PARAGRAPH = re.compile(r'<p data-bbox="(\d+) (\d+) (\d+) (\d+)">(.*?)</p>')


def page_fact(texts: list[SeenText]) -> Fact:
    """The page as HTML, its words from top to bottom."""
    html, spots = "<html><body>", []
    for text in sorted(texts, key=lambda text: text_box(text)[1]):
        box = text_box(text)
        edges = " ".join(str(round(edge)) for edge in box)
        html += f'\n<p data-bbox="{edges}">'
        spots.append((len(html), box))
        for character, of_character in zip(text.string, text.characters, strict=True):
            html += character
            spots.append((len(html), of_character))
        html += "</p>"
    html += "\n</body></html>"
    return Fact("page", "page", QUESTIONS, html, html, (), spots=tuple(spots))


def text_box(text: SeenText) -> Box:
    """Around all characters."""
    x1, y1, x2, y2 = zip(*text.characters, strict=True)
    return min(x1), min(y1), max(x2), max(y2)


def words_of(html: str) -> list[tuple[str, list[float]]]:
    """The words of a page and their boxes; what is not written so is left out."""
    return [(word, [float(edge) for edge in edges]) for *edges, word in _PARAGRAPH.findall(html)]


def right_words(html: str, expected: str, least: float = 0.5) -> tuple[int, int]:
    """How many words of ``expected`` are in ``html`` with an IoU of at least ``least``; of all."""
    found = words_of(html)
    wanted = words_of(expected)
    right = 0
    for word, box in wanted:
        same = [one for one in found if one[0] == word and iou(one[1], box) >= least]
        right += bool(same)
        for one in same[:1]:
            found.remove(one)
    return right, len(wanted)


def word_count(rng: np.random.Generator) -> int:
    """Of a page."""
    return int(rng.integers(1, MOST_WORDS + 1))
