"""What tokens of questions and answers are about: the box or the second that is read off."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from saccade.demo.world.answers import seconds_of
from saccade.demo.world.examples import GEOMETRY
from saccade.demo.world.questions import Turn

ALONE = -1
"""The number of what need not be told from others."""


@dataclass
class AskedTurn:
    """A turn of the batch: its tokens are ``answer_places[start:stop]``."""

    turn: Turn
    start: int
    stop: int
    characters: list[int]  # at which of the answer's characters each token but the last begins
    named: list[int]  # after which tokens of the batch the question has named ``turn.moments``


@dataclass
class AskedTargets:
    """For each token of the answers; where ``known`` is False there is nothing, and a zero."""

    values: Tensor  # [A, 5]: box in cells (x1, y1, x2, y2), second
    known: Tensor  # bool [A, 5]
    named: Tensor  # [M] index into the flattened token ids
    moments: Tensor  # [M] the second of the event that has been named there
    numbers: Tensor | None = None  # [A] which of several media of a kind, or `ALONE`


def asked_targets(turns: Sequence[AskedTurn], moments: bool) -> AskedTargets:
    """The targets of these turns, which are all that the batch has.

    Args:
        moments: whether questions about events have any.
    """
    values = torch.zeros(turns[-1].stop, 5)
    known = torch.zeros(turns[-1].stop, 5, dtype=torch.bool)
    for asked in turns:
        for place, character in enumerate(asked.characters, asked.start):
            box = next((box for end, box in asked.turn.spots if character < end), None)
            if box is not None:
                values[place, :4] = torch.tensor(box) / GEOMETRY.factor
                known[place, :4] = True
        if asked.turn.task == "event_time":
            span = slice(asked.start, asked.stop)
            values[span, 4] = seconds_of(asked.turn.answer)
            known[span, 4] = True
    pairs = [pair for asked in turns for pair in zip(asked.named, asked.turn.moments, strict=True)]
    named = torch.tensor([place for place, _ in pairs if moments], dtype=torch.int64)
    seconds = torch.tensor([float(second) for _, (_, second) in pairs if moments])
    return AskedTargets(values, known, named, seconds)
