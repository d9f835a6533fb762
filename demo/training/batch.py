"""Examples -> one batch of tensors: tokens, positions, who attends to whom, and what to learn.

A sequence is the prompt's beginning with one image or video, then branches. A branch holds one
question with its answer (sometimes two, as a conversation). It sees the beginning and itself only,
and its positions continue from the beginning, so that every branch is exactly the conversation
that a server gets, at the price of one image for all.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from saccade.demo.checkpoints.tokenizer import token_id
from saccade.demo.training.asked import AskedTargets, AskedTurn, asked_targets
from saccade.demo.world.examples import GEOMETRY, Example
from saccade.demo.world.scenes import Pixels
from saccade.model.positions import MediumPosition, mrope_positions
from saccade.model.tower.windows import plan_windows

TOKENS_PER_SECOND = 2
WINDOW = 4  # cells along a window: 112 pixels
_MERGE = GEOMETRY.merge_size
BEFORE_MEDIUM = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>"
)
_PADDING_BRANCH = -1


@dataclass
class Groups:
    """Patches that attend to each other: ``runs`` of (groups, patches in each), one after another.

    ``order`` brings the batch's patches into that order and ``inverse`` back; None: they are in it.
    """

    runs: list[tuple[int, int]]
    order: Tensor | None = None
    inverse: Tensor | None = None


@dataclass
class CellTargets:
    """The dense targets of all cells in raster order; see `world.examples.DenseTargets`."""

    kind: Tensor  # [cells]
    colour: Tensor
    centre: Tensor
    box: Tensor  # [cells, 4] in cells
    text: Tensor  # [cells, COLUMNS_OF_TEXT]
    event: Tensor
    place: Tensor  # [cells, 3]: second, row, column


@dataclass
class TowerInputs:
    """What the tower reads: P patches of C cells."""

    patches: Tensor  # uint8 [P, 1176], sorted by the length of their window
    patch_positions: Tensor  # [P, 2] row, column
    window_groups: Groups
    frame_groups: Groups
    raster_order: Tensor  # [C] index into the merged patches


@dataclass
class TowerBatch:
    """What the tower alone learns from."""

    tower: TowerInputs
    cells: CellTargets


@dataclass
class Batch(TowerBatch):
    """Shapes: C cells, B samples, L tokens, A answer tokens."""

    token_ids: Tensor  # [B, L]
    positions: Tensor  # [3, B, L]
    branches: Tensor  # [B, L]: 0 the shared beginning, 1.. the branches
    cell_places: Tensor  # [C or C'] index into the flattened token ids
    answer_places: Tensor  # [A] index of the token before
    answer_ids: Tensor  # [A]
    answer_weights: Tensor  # [A]
    turns: list[AskedTurn]
    asked: AskedTargets
    cell_rows: Tensor | None = None  # [C']: which cell is at each of the places; None: each at one
    cell_numbers: Tensor | None = None  # [C'] which of several media of a kind, or `ALONE`


class Batcher:
    """Makes batches; keeps the tokenizer and what it said before."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, Encoding] = {}

    def encode(self, text: str) -> Encoding:
        """Tokens and where in the text they are; remembered."""
        if text not in self._known:
            if len(self._known) > 50_000:
                self._known.clear()
            self._known[text] = self._tokenizer.encode(text)
        return self._known[text]

    def batch(
        self, examples: Sequence[Example], pairs: float = 0.0, seed: int = 0, moments: bool = False
    ) -> Batch:
        """All examples in one batch.

        Args:
            pairs: fraction of the examples whose questions are asked two by two.
            seed: decides which.
            moments: whether to learn when what a question names happens.
        """
        rng = np.random.default_rng(seed)
        samples = [self._sample(example, 2 if rng.random() < pairs else 1) for example in examples]
        length = max(len(sample.ids) for sample in samples)
        ids = np.full((len(samples), length), token_id("<|endoftext|>"))
        branches = np.full((len(samples), length), _PADDING_BRANCH)
        positions = np.zeros((3, len(samples), length), np.int64)
        places, cell_places, turns = [], [], []
        answered = 0
        for row, (sample, example) in enumerate(zip(samples, examples, strict=True)):
            used = len(sample.ids)
            ids[row, :used], branches[row, :used] = sample.ids, sample.branches
            positions[:, row, :used] = sample.positions
            cell_places.append(row * length + sample.first_cell + np.arange(sample.cells))
            for turn, (start, stop), named in zip(
                example.turns, sample.answers, sample.named, strict=True
            ):
                places.append(row * length + np.arange(start, stop))
                characters = [first for first, _ in self.encode(turn.answer).offsets]
                after = [row * length + place for place in named]
                turns.append(AskedTurn(turn, answered, answered + stop - start, characters, after))
                answered += stop - start
        answer_places = np.concatenate(places)
        weights = np.concatenate(
            [np.full(t.stop - t.start, (t.stop - t.start) ** -0.5) for t in turns]
        )
        return Batch(
            tower=_tower_inputs(examples),
            token_ids=torch.from_numpy(ids),
            positions=torch.from_numpy(positions),
            branches=torch.from_numpy(branches),
            cell_places=torch.from_numpy(np.concatenate(cell_places)),
            answer_places=torch.from_numpy(answer_places - 1),
            answer_ids=torch.from_numpy(ids.ravel()[answer_places]),
            answer_weights=torch.from_numpy(weights.astype(np.float32)),
            turns=turns,
            asked=asked_targets(turns, moments),
            cells=_cell_targets(examples),
        )

    def _sample(self, example: Example, turns_a_branch: int) -> "_Sample":
        t, h, w = example.grid
        grid = (t, h // _MERGE, w // _MERGE)
        pad = "<|image_pad|>" if example.seconds_per_grid is None else "<|video_pad|>"
        before = self.encode(BEFORE_MEDIUM).ids
        ids = [*before, *[token_id(pad)] * math.prod(grid), token_id("<|vision_end|>")]
        medium = MediumPosition(len(before), grid, example.seconds_per_grid)
        shared, shift = mrope_positions(len(ids), [medium], TOKENS_PER_SECOND)
        beginning = len(ids)
        branches = [0] * beginning
        offsets: list[int] = []  # of each branch token from the branch's start
        answers, named = [], []
        for index, turn in enumerate(example.turns):
            first = index % turns_a_branch == 0
            before_question = "" if first else "\n<|im_start|>user\n"
            encoded = self.encode(
                f"{before_question}{turn.question}<|im_end|>\n<|im_start|>assistant\n"
            )
            opening = encoded.ids
            ends = [end - len(before_question) for _, end in encoded.offsets]
            named.append([len(ids) + bisect_left(ends, end) for end, _ in turn.moments])
            answer = [*self.encode(turn.answer).ids, token_id("<|im_end|>")]
            start = len(ids) + len(opening)
            answers.append((start, start + len(answer)))
            offset = 0 if first else offsets[-1] + 1
            offsets += range(offset, offset + len(opening) + len(answer))
            ids += [*opening, *answer]
            branches += [1 + index // turns_a_branch] * (len(opening) + len(answer))
        branch_positions = np.array(offsets, np.int64) + beginning + shift
        positions = np.concatenate(
            [shared, np.broadcast_to(branch_positions, (3, len(offsets)))], axis=1
        )
        return _Sample(ids, branches, positions, answers, named, len(before), math.prod(grid))


@dataclass
class _Sample:
    ids: list[int]
    branches: list[int]
    positions: npt.NDArray[np.int64]
    answers: list[tuple[int, int]]
    named: list[list[int]]  # of each turn, the places of its moments
    first_cell: int
    cells: int


def patchify(raster: Pixels) -> npt.NDArray[np.uint8]:
    """``[frames, height, width, 3]`` -> ``[patches, 1176]``, cell by cell."""
    size, steps = GEOMETRY.patch_size, GEOMETRY.temporal_patch_size
    if len(raster) == 1:
        raster = raster.repeat(steps, axis=0)
    frames, height, width, _ = raster.shape
    tiles = raster.reshape(
        frames // steps,
        steps,
        height // (_MERGE * size),
        _MERGE,
        size,
        width // (_MERGE * size),
        _MERGE,
        size,
        3,
    )
    return tiles.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(-1, 3 * steps * size * size)


def _tower_inputs(examples: Sequence[Example]) -> TowerInputs:
    unit = _MERGE**2
    plan = plan_windows([example.grid for example in examples], _MERGE, WINDOW)
    cells = len(plan.unit_order)
    lengths = np.diff(plan.window_cu_seqlens) // unit
    window_of = np.repeat(np.arange(len(lengths)), lengths)  # of each cell of the plan's sequence
    sequence = np.argsort(lengths[window_of], kind="stable")
    raster = plan.unit_order[sequence]  # raster cell at each place of the batch
    inverse = np.empty(cells, np.int64)
    inverse[raster] = np.arange(cells)
    patches = np.concatenate([patchify(example.raster) for example in examples])
    in_order = patches.reshape(cells, -1)[raster].reshape(cells * unit, -1)
    within = np.indices((_MERGE, _MERGE)).reshape(2, 1, unit)  # rows and columns in a unit
    rows_columns = (plan.positions[:, sequence, None] * _MERGE + within).reshape(2, -1).T
    frame_lengths = np.diff(plan.frame_cu_seqlens)
    frame_of_raster = np.repeat(np.arange(len(frame_lengths)), frame_lengths // unit)
    frame_of = np.repeat(frame_of_raster[raster], unit)
    order = np.lexsort((frame_of, frame_lengths[frame_of]))
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return TowerInputs(
        patches=torch.from_numpy(in_order),
        patch_positions=torch.from_numpy(np.ascontiguousarray(rows_columns)),
        window_groups=Groups(_runs(lengths * unit)),
        frame_groups=Groups(_runs(frame_lengths), torch.from_numpy(order), torch.from_numpy(back)),
        raster_order=torch.from_numpy(inverse),
    )


def _runs(lengths: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    values, counts = np.unique(lengths, return_counts=True)
    return [(int(count), int(value)) for value, count in zip(values, counts, strict=True)]


def tower_batch(examples: Sequence[Example]) -> TowerBatch:
    """The examples without their questions."""
    return TowerBatch(_tower_inputs(examples), _cell_targets(examples))


def _cell_targets(examples: Sequence[Example]) -> CellTargets:
    def joined(name: str) -> Tensor:
        parts = []
        for example in examples:
            values = getattr(example.targets, name)
            parts.append(values.reshape(-1, *values.shape[3:]))
        return torch.from_numpy(np.concatenate(parts))

    where = []
    for example in examples:
        place = np.indices(example.targets.kind.shape).reshape(3, -1).T.astype(np.float32)
        place[:, 0] *= example.seconds_per_grid or 0.0
        where.append(place)
    return CellTargets(
        **{name: joined(name) for name in ("kind", "colour", "centre", "box", "text", "event")},
        place=torch.from_numpy(np.concatenate(where)),
    )
