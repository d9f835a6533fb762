"""Dense auxiliary heads: with the language loss alone the tower does not begin to see.

They read, for every cell, what is there: first from the tower's output, then from inside the
language model, which has to work out absolute places and times. They are not in the checkpoint.
"""

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from saccade.demo.training.asked import ALONE
from saccade.demo.training.batch import Batch, CellTargets
from saccade.demo.training.model.layers import Norm
from saccade.demo.world.clips import ACTIONS
from saccade.demo.world.examples import COLUMNS_OF_TEXT
from saccade.demo.world.scenes import ALPHABET, COLOURS, KINDS

_EVENTS = 1 + 2 * len(ACTIONS)
_CHARACTERS = 1 + len(ALPHABET)
# Most cells hold no text, no event and no centre.
_NOTHING_WEIGHT = 0.1


class DenseHeads(nn.Module):
    """Linear readings of the tower's output and of layers of the language model.

    Args:
        hidden: width of what is read.
        cells_layer: the layer after which the cells know their places.
        asked_layer: the layer after which tokens know what they are about.
    """

    def __init__(self, hidden: int, cells_layer: int, asked_layer: int) -> None:
        super().__init__()
        self.cells_layer = cells_layer
        self.asked_layer = asked_layer
        self.sizes = {
            "kind": 1 + len(KINDS),
            "colour": 1 + len(COLOURS),
            "centre": 1 + len(KINDS),
            "offset": 4,
            "text": COLUMNS_OF_TEXT * _CHARACTERS,
            "event": _EVENTS,
        }
        self.tower = nn.Sequential(Norm(hidden), nn.Linear(hidden, sum(self.sizes.values())))
        self.inner = nn.Sequential(Norm(hidden), nn.Linear(hidden, 4 + 3 + _EVENTS))
        self.asked = nn.Sequential(Norm(hidden), nn.Linear(hidden, 5))

    def of_tower(self, cells: Tensor, targets: CellTargets) -> dict[str, Tensor]:
        """The losses by name, from the tower's cells ``[cells, hidden]``."""
        read = dict(
            zip(self.sizes, self.tower(cells).split(list(self.sizes.values()), dim=1), strict=True)
        )
        touched = targets.kind > 0
        corner = targets.place[:, [2, 1, 2, 1]]  # column, row of the cell, for both corners
        losses = {
            "kind": functional.cross_entropy(read["kind"], targets.kind),
            # How many centres there are is how many things there are.
            "centre": functional.cross_entropy(
                read["centre"], targets.centre, _weights(1 + len(KINDS))
            ),
            "text": functional.cross_entropy(
                read["text"].reshape(-1, _CHARACTERS),
                targets.text.flatten(),
                _weights(_CHARACTERS),
            ),
        }
        if touched.any():
            losses["colour"] = functional.cross_entropy(
                read["colour"][touched], targets.colour[touched]
            )
            losses["offset"] = functional.smooth_l1_loss(
                read["offset"][touched], (targets.box - corner)[touched], beta=0.1
            )
        if _of_clips(targets):
            losses["change"] = functional.cross_entropy(
                read["event"], _within(targets.event), _weights(_EVENTS)
            )
        return losses

    def of_language(self, states: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        """The losses by name, from the language model's states ``[samples, length, hidden]``."""
        targets = batch.cells
        inside = states[self.cells_layer].flatten(0, 1)[batch.cell_places]
        box, place, event = self.inner(inside).split([4, 3, _EVENTS], dim=1)
        touched = targets.kind > 0
        losses = {"place": functional.l1_loss(place, targets.place)}
        if touched.any():
            losses["box"] = functional.l1_loss(box[touched], targets.box[touched])
        if _of_clips(targets):
            losses["event"] = functional.cross_entropy(event, targets.event, _weights(_EVENTS))
        known = batch.asked.known
        if known.any():
            about = self.asked(states[self.asked_layer].flatten(0, 1)[batch.answer_places])
            losses["asked"] = functional.smooth_l1_loss(
                about[known], batch.asked.values[known], beta=0.1
            )
        if len(batch.asked.named):
            about = self.asked(states[self.asked_layer].flatten(0, 1)[batch.asked.named])
            losses["moment"] = functional.smooth_l1_loss(about[:, 4], batch.asked.moments, beta=0.1)
        return losses


class TalkHeads(nn.Module):
    """Readings of the language model alone, of a tower that is trained already.

    A second of a video of minutes is read as its digits are written.

    Args:
        hidden: width of what is read.
        cells_layer: the layer after which the cells know their places in their image.
        clock_layer: likewise, when they are and in which of several images.
        asked_layer: the layer after which tokens know what they are about.
        moment_layer: likewise, when it is.
    """

    def __init__(
        self, hidden: int, cells_layer: int, clock_layer: int, asked_layer: int, moment_layer: int
    ) -> None:
        super().__init__()
        self.cells_layer, self.clock_layer = cells_layer, clock_layer
        self.asked_layer, self.moment_layer = asked_layer, moment_layer
        self.inner = nn.Sequential(Norm(hidden), nn.Linear(hidden, 4 + 2 + _EVENTS))
        self.clock = nn.Sequential(Norm(hidden), nn.Linear(hidden, sum(_CLOCK)))
        self.asked = nn.Sequential(Norm(hidden), nn.Linear(hidden, 4))
        self.moment = nn.Sequential(Norm(hidden), nn.Linear(hidden, sum(_CLOCK)))
        self.number = nn.Sequential(Norm(hidden), nn.Linear(hidden, MOST_MEDIA))
        self.number_asked = nn.Sequential(Norm(hidden), nn.Linear(hidden, MOST_MEDIA))

    def of_tower(self, cells: Tensor, targets: CellTargets) -> dict[str, Tensor]:
        """Nothing: the tower is not trained."""
        return {}

    def of_language(
        self, states: list[Tensor], batch: Batch, numbered: bool = True
    ) -> dict[str, Tensor]:
        """The losses by name, from the language model's states ``[samples, length, hidden]``.

        Args:
            numbered: whether images are told apart.
        """
        targets = batch.cells
        rows = batch.cell_rows
        if rows is not None:
            targets = CellTargets(*(value[rows] for value in vars(targets).values()))
        inside = states[self.cells_layer].flatten(0, 1)[batch.cell_places]
        box, place, event = self.inner(inside).split([4, 2, _EVENTS], dim=1)
        touched = targets.kind > 0
        losses = {"place": functional.l1_loss(place, targets.place[:, 1:])}
        if touched.any():
            losses["box"] = functional.l1_loss(box[touched], targets.box[touched])
        if _of_clips(targets):
            losses["event"] = functional.cross_entropy(event, targets.event, _weights(_EVENTS))
            late = states[self.clock_layer].flatten(0, 1)[batch.cell_places]
            losses["clock"] = _clock_loss(self.clock(late), targets.place[:, 0])
        asked = batch.asked
        near = asked.known[:, 0]
        if near.any():
            about = self.asked(states[self.asked_layer].flatten(0, 1)[batch.answer_places])
            losses["asked"] = functional.smooth_l1_loss(
                about[near], asked.values[near, :4], beta=0.1
            )
        timed = asked.known[:, 4]
        late = states[self.moment_layer].flatten(0, 1)
        read = torch.cat([late[batch.answer_places[timed]], late[asked.named]])
        if len(read):
            seconds = torch.cat([asked.values[timed, 4], asked.moments])
            losses["moment"] = _clock_loss(self.moment(read), seconds)
        if numbered:
            losses |= self._of_several(states[self.clock_layer].flatten(0, 1), batch)
        return losses

    def _of_several(self, states: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Which of several images or videos a cell belongs to, and a question is about."""
        losses = {}
        for name, head, places, numbers in (
            ("number", self.number, batch.cell_places, batch.cell_numbers),
            ("number asked", self.number_asked, batch.answer_places, batch.asked.numbers),
        ):
            if numbers is not None and (numbers != ALONE).any():
                logits = head(states[places[numbers != ALONE]])
                losses[name] = functional.cross_entropy(logits, numbers[numbers != ALONE])
        return losses


_CLOCK = (11, 6, 10)  # minutes, tens of seconds, seconds
MOST_MEDIA = 20
"""Of a conversation."""


def _clock_loss(logits: Tensor, seconds: Tensor) -> Tensor:
    second = (seconds + 1e-3).floor().long()
    digits = (second // 60, second % 60 // 10, second % 10)
    parts = torch.split(logits, list(_CLOCK), dim=1)
    losses = [
        functional.cross_entropy(part, digit) for part, digit in zip(parts, digits, strict=True)
    ]
    return torch.stack(losses).mean()


def _of_clips(targets: CellTargets) -> bool:
    return bool((targets.place[:, 0] > 0).any())


def _weights(classes: int) -> Tensor:
    weights = torch.ones(classes)
    weights[0] = _NOTHING_WEIGHT
    return weights


def _within(event: Tensor) -> Tensor:
    """Events between the two frames of one step: the tower, which sees one step, sees no others."""
    return torch.where((event > 0) & (event % 2 == 0), event, 0)


WEIGHTS = {
    "answers": 2.0,
    "scale": 0.02,
    "kind": 1.5,
    "colour": 0.5,
    "centre": 0.5,
    "offset": 2.0,
    "text": 1.5,
    "change": 0.5,
    "place": 1.0,
    "box": 1.0,
    "event": 0.7,
    "asked": 1.0,
    "moment": 1.0,
    "clock": 0.5,
    "number": 0.5,
    "number asked": 0.5,
}
"""What each loss counts."""
