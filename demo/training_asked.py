"""What each token of an answer is about: the box or the second that it is read off."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from saccade.demo.answers import seconds_of
from saccade.demo.world_examples import GEOMETRY
from saccade.demo.world_questions import Turn


@dataclass
class AskedTurn:
    """A turn of the batch: its tokens are ``answer_places[start:stop]``."""

    turn: Turn
    start: int
    stop: int
    characters: list[int]  # at which of the answer's characters each token but the last begins


@dataclass
class AskedTargets:
    """For each token of the answers; where ``known`` is False there is nothing, and a zero."""

    values: Tensor  # [A, 5]: box in cells (x1, y1, x2, y2), second
    known: Tensor  # bool [A, 5]


def asked_targets(turns: Sequence[AskedTurn]) -> AskedTargets:
    """The targets of these turns, which are all that the batch has."""
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
    return AskedTargets(values, known)
