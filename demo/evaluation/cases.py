"""Held-out questions for every figure that the evaluation reports."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from PIL import Image

from saccade.demo.world.answers import boxes_agree
from saccade.demo.world.examples import (
    MOST_CELLS,
    TRAINING_RATES,
    UNSEEN_RATES,
    Example,
    clip_controls,
    clip_example,
    picture_example,
    picture_sizes,
    random_clip,
)
from saccade.demo.world.questions import Turn
from saccade.demo.world.scenes import Pixels

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
    "agreement": 0.99,
}
"""The least fraction of right answers that the bundled model should reach."""

_FIRST_SEED = 2**32  # above the seeds of training and of its held-out set


@dataclass(frozen=True)
class Case:
    """One question about one medium."""

    figure: str  # the figure that it counts towards
    example: Example
    turn: Turn
    medium: bytes  # the encoded file, without loss
    controls: dict[str, float]  # of the request's content part

    @property
    def is_clip(self) -> bool:
        """Whether the medium is a video."""
        return self.example.seconds_per_grid is not None

    def right(self, answer: str) -> bool:
        """Whether the answer counts: boxes by IoU, everything else by its text."""
        if self.turn.task == "boxes":
            return boxes_agree(answer, self.turn.answer)
        # Events fall on whole seconds and answers are whole seconds, so that within half a second
        # means equal.
        return answer.strip() == self.turn.answer


def make_cases(seed: int, count: int) -> list[Case]:
    """``count`` cases for each figure; a pure function of its arguments."""
    cases: list[Case] = []
    for number, figure in enumerate((*PICTURE_FIGURES, *CLIP_FIGURES)):
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
        assert example.source is not None
        buffer = io.BytesIO()
        Image.fromarray(example.source).save(buffer, "PNG")
        yield Case(figure, example, example.turns[0], buffer.getvalue(), {})


def _clip_cases(rng: np.random.Generator, figure: str) -> Iterator[Case]:
    rates = UNSEEN_RATES if figure == "unseen_fps" else TRAINING_RATES
    task = "event_time" if figure == "unseen_fps" else figure
    while True:
        clip = random_clip(rng, 20, 2 * int(rng.integers(2, 6)), early=False)
        fps = rates[rng.integers(len(rates))]
        example = clip_example(rng, clip, fps, [task], 1, worn=False)
        if not example.turns:
            continue
        asked = clip_controls(clip, fps)
        assert asked.resized_width is not None
        assert asked.resized_height is not None
        controls = {
            "fps": fps,
            "resized_width": asked.resized_width,
            "resized_height": asked.resized_height,
        }
        medium = encode_lossless(clip.render(range(clip.frames)), clip.fps)
        yield Case(figure, example, example.turns[0], medium, controls)


def encode_lossless(frames: Pixels, fps: int) -> bytes:
    """Frames ``[n, height, width, 3]`` as a QuickTime file whose pixels come back unchanged."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mov") as container:
        stream = container.add_stream("qtrle", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()
