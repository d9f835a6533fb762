"""Dense auxiliary heads: with the language loss alone the tower does not begin to see.

They read, for every cell, what is there: first from the tower's output, then from inside the
language model, which has to work out absolute places and times. They are not in the checkpoint.
"""

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from saccade.demo.training_batch import CellTargets
from saccade.demo.training_model import Norm
from saccade.demo.world import ALPHABET, COLOURS, KINDS
from saccade.demo.world_clips import ACTIONS
from saccade.demo.world_examples import COLUMNS_OF_TEXT

_EVENTS = 1 + 2 * len(ACTIONS)
_CHARACTERS = 1 + len(ALPHABET)
# Most cells hold no text and no event.
_NOTHING_WEIGHT = 0.1


class DenseHeads(nn.Module):
    """Linear readings of the tower's output and of one layer of the language model."""

    def __init__(self, hidden: int, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.sizes = {
            "kind": 1 + len(KINDS),
            "colour": 1 + len(COLOURS),
            "offset": 4,
            "text": COLUMNS_OF_TEXT * _CHARACTERS,
            "event": _EVENTS,
        }
        self.tower = nn.Sequential(Norm(hidden), nn.Linear(hidden, sum(self.sizes.values())))
        self.inner = nn.Sequential(Norm(hidden), nn.Linear(hidden, 4 + 3 + _EVENTS))

    def forward(
        self, cells: Tensor, states: list[Tensor], targets: CellTargets
    ) -> dict[str, Tensor]:
        """The losses by name."""
        read = dict(
            zip(self.sizes, self.tower(cells).split(list(self.sizes.values()), dim=1), strict=True)
        )
        inside = states[self.layer].flatten(0, 1)[targets.places]
        box, place, event = self.inner(inside).split([4, 3, _EVENTS], dim=1)
        touched = targets.kind > 0
        corner = targets.place[:, [2, 1, 2, 1]]  # column, row of the cell, for both corners
        nothing = targets.kind.new_ones(_EVENTS, dtype=torch.float32)
        nothing[0] = _NOTHING_WEIGHT
        characters = torch.ones(_CHARACTERS)
        characters[0] = _NOTHING_WEIGHT
        losses = {
            "kind": functional.cross_entropy(read["kind"], targets.kind),
            "text": functional.cross_entropy(
                read["text"].reshape(-1, _CHARACTERS), targets.text.flatten(), characters
            ),
            "place": functional.l1_loss(place, targets.place),
        }
        if touched.any():
            losses["colour"] = functional.cross_entropy(
                read["colour"][touched], targets.colour[touched]
            )
            losses["offset"] = functional.smooth_l1_loss(
                read["offset"][touched], (targets.box - corner)[touched], beta=0.1
            )
            losses["box"] = functional.l1_loss(box[touched], targets.box[touched])
        if (targets.place[:, 0] > 0).any():  # clips
            losses["change"] = functional.cross_entropy(
                read["event"], _within(targets.event), nothing
            )
            losses["event"] = functional.cross_entropy(event, targets.event, nothing)
        return losses


def _within(event: Tensor) -> Tensor:
    """Events between the two frames of one step: the tower, which sees one step, sees no others."""
    return torch.where((event > 0) & (event % 2 == 0), event, 0)


WEIGHTS = {
    "kind": 1.5,
    "colour": 0.5,
    "offset": 2.0,
    "text": 0.7,
    "change": 0.5,
    "place": 1.0,
    "box": 1.0,
    "event": 0.7,
}
"""What each loss counts beside the language loss."""
