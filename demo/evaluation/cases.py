"""Held-out questions for every figure that the evaluation reports."""

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass

import numpy as np

from saccade.demo.conversations.conversation import Conversation, Medium, Said
from saccade.demo.world.answers import boxes_agree
from saccade.demo.world.examples import (
    MOST_CELLS,
    TRAINING_RATES,
    UNSEEN_RATES,
    clip_example,
    picture_example,
    picture_sizes,
    random_clip,
)
from saccade.demo.world.questions import Turn

PICTURE_FIGURES = ("colour_kind", "counting", "reading", "boxes", "unseen_size")
CLIP_FIGURES = ("event_time", "order", "unseen_fps")
TARGETS = {
    "colour_kind": 0.97,
    "counting": 0.95,
    "reading": 0.90,
    "boxes": 0.90,
    "event_time": 0.95,
    "order": 0.97,
    "unseen_fps": 0.90,
    "unseen_size": 0.90,
    "two_images": 0.90,
    "three_images": 0.90,
    "second_turn": 0.90,
    "json": 0.95,
    "grammar": 0.98,
    "call": 0.95,
    "ten_minutes": 0.90,
    "page_words": 0.90,
    "agreement": 0.99,
}
"""The least fraction of right answers that the bundled model should reach."""

_FIRST_SEED = 2**32  # above the seeds of training and of its held-out set


@dataclass(frozen=True)
class Case:
    """A conversation whose last answer is asked for, and how it is judged."""

    figure: str  # the figure that it counts towards
    conversation: Conversation
    score: Callable[[str], float]  # of an answer: 1 right, 0 wrong, or the share that is right

    @property
    def medium(self) -> Medium:
        """The last image or video."""
        return self.conversation.media[-1]

    @property
    def expected(self) -> str:
        """The right answer."""
        return self.conversation.said[-1].text

    @property
    def question(self) -> str:
        """The last text of the user."""
        texts = [
            part["text"] for part in self.conversation.messages[-2]["content"] if "text" in part
        ]
        return str(texts[-1])


def _case(figure: str, medium: Medium, turn: Turn) -> Case:
    conversation = Conversation()
    conversation.user(medium, turn.question)
    conversation.answer(Said(turn.answer, task=turn.task))
    # Events fall on whole seconds and answers are whole seconds, so that within half a second
    # means equal.
    agree = boxes_agree if turn.task == "boxes" else _equal
    return Case(figure, conversation, lambda answer: float(agree(answer, turn.answer)))


def _equal(answer: str, expected: str) -> bool:
    return answer.strip() == expected


def make_cases(seed: int, count: int, only: Container[str] | None = None) -> list[Case]:
    """``count`` cases for each figure; a pure function of its arguments.

    Args:
        only: these figures, whose cases are the same with the others and without; default: all.
    """
    cases: list[Case] = []
    for number, figure in enumerate((*PICTURE_FIGURES, *CLIP_FIGURES)):
        if only is not None and figure not in only:
            continue
        rng = np.random.default_rng([_FIRST_SEED + seed, number])
        maker = _clip_cases if figure in CLIP_FIGURES else _picture_cases
        generator = maker(rng, figure)
        cases += [next(generator) for _ in range(count)]
    return cases


def _picture_cases(rng: np.random.Generator, figure: str) -> Iterator[Case]:
    sizes = picture_sizes(MOST_CELLS, unseen=figure == "unseen_size")
    task = "boxes" if figure == "unseen_size" else figure
    while True:
        size = sizes[rng.integers(len(sizes))]
        text = figure == "reading" or bool(rng.random() < 0.5)
        example = picture_example(rng, size, int(rng.integers(1, 6)), [task], 1, text)
        if not example.turns:  # no room for the text, or nothing to ask
            continue
        yield _case(figure, Medium("image", example), example.turns[0])


def _clip_cases(rng: np.random.Generator, figure: str) -> Iterator[Case]:
    rates = UNSEEN_RATES if figure == "unseen_fps" else TRAINING_RATES
    task = "event_time" if figure == "unseen_fps" else figure
    while True:
        clip = random_clip(rng, 20, 2 * int(rng.integers(2, 6)), early=False)
        fps = rates[rng.integers(len(rates))]
        example = clip_example(rng, clip, fps, [task], 1, worn=False)
        if not example.turns:
            continue
        medium = Medium("video", example, clip=clip, fps=fps)
        yield _case(figure, medium, example.turns[0])
