"""Conversations -> one batch of tensors, through the checkpoint's own chat template."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from saccade.demo.checkpoints.tokenizer import token_id
from saccade.demo.conversations.conversation import Conversation, Said
from saccade.demo.training.asked import ALONE, AskedTargets
from saccade.demo.training.batch import TOKENS_PER_SECOND, Batch, tower_batch
from saccade.demo.world.examples import GEOMETRY, Example
from saccade.model.positions import MediumPosition, mrope_positions
from saccade.server.engine.prompt.chat_templates import TEMPLATE

_MERGE = GEOMETRY.merge_size
_ANSWERS, _END = "<|im_start|>assistant\n", "<|im_end|>"
_PADS = {"image": "<|image_pad|>", "video": "<|video_pad|>"}
_PADDING_BRANCH = -1
_ROW = 320  # tokens of conversations that share a row
_LONG_BEGINNING = 64  # tokens


@dataclass
class TokenizedConversation:
    """A conversation as the model reads it; places are those of tokens.

    Attributes:
        ids: with every cell of its media.
        positions: ``[3, tokens]``.
        cells: of each medium, the place of its first cell.
        answers: of each message of the model, the places of its tokens and at which of its
            characters each of them begins.
    """

    ids: list[int]
    positions: npt.NDArray[np.int64]
    cells: list[int]
    answers: list[tuple[list[int], list[int]]]
    named: list[list[tuple[int, int]]] = field(default_factory=list)


class TalkBatcher:
    """Makes batches of conversations."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._template = TEMPLATE.read_text("utf-8")

    def prompt(self, conversation: Conversation, asked: bool = False) -> str:
        """All of its messages as text, a pad for each medium.

        Args:
            asked: without its last answer, which is asked for.
        """
        messages = conversation.messages[:-1] if asked else conversation.messages
        rendered, _ = render_jinja_template(
            [messages],
            conversation.tools or None,
            chat_template=self._template,
            add_generation_prompt=asked,
        )
        return str(rendered[0])

    def tokenized(
        self, conversation: Conversation, asked: bool = False, by_index: bool = False
    ) -> TokenizedConversation:
        """What the model reads.

        Args:
            asked: without its last answer, which is asked for.
            by_index: number the steps of videos, whatever their distance in time.
        """
        text = self.prompt(conversation, asked)
        encoded = self._tokenizer.encode(text)
        pads = [token_id(pad) for pad in _PADS.values()]
        media = iter(conversation.media)
        ids: list[int] = []
        places: list[int] = []  # of each token of the text
        positions: list[MediumPosition] = []
        for token in encoded.ids:
            places.append(len(ids))
            if token not in pads:
                ids.append(token)
                continue
            example = next(media).example
            grid = _cells_of(example)
            spacing = example.seconds_per_grid
            if by_index and spacing is not None:
                spacing = 1 / TOKENS_PER_SECOND
            positions.append(MediumPosition(len(ids), grid, spacing))
            ids += [token] * math.prod(grid)
        starts = [start for start, _ in encoded.offsets]
        answers, named, at = [], [], 0
        for said in conversation.said[:-1] if asked else conversation.said:
            asked_at = at
            at = text.index(_ANSWERS, at) + len(_ANSWERS)
            end = text.index(_END, at)
            assert text[at:end] == said.text, (text[at:end], said.text)
            first, last = bisect_left(starts, at), bisect_left(starts, end)
            span = range(first, last + 1)  # with the token that ends it
            answers.append(([places[i] for i in span], [starts[i] - at for i in span]))
            found = []
            for phrase, second in said.moments:
                close = text.index(phrase, asked_at, at) + len(phrase)
                place = places[bisect_left(starts, close) - 1]
                if place > positions[-1].offset:  # before the video nobody knows
                    found.append((place, second))
            named.append(found)
            at = end
        order, _ = mrope_positions(len(ids), positions, TOKENS_PER_SECOND)
        return TokenizedConversation(ids, order, [p.offset for p in positions], answers, named)

    def batch(self, conversations: Sequence[Conversation], punctuation: bool = False) -> Batch:
        """All conversations in one batch; a medium that several share is seen once.

        Args:
            punctuation: learn what stands between the keys that a grammar gives and their values.
        """
        examples: dict[int, Example] = {}
        for conversation in conversations:
            for medium in conversation.media:
                examples.setdefault(id(medium.example), medium.example)
        sizes = [math.prod(_cells_of(example)) for example in examples.values()]
        first_rows = dict(zip(examples, np.cumsum([0, *sizes]).tolist(), strict=False))
        samples = [self.tokenized(conversation) for conversation in conversations]
        rows = _rows(samples)
        length = max(row.length for row in rows)
        ids = np.full((len(rows), length), token_id("<|endoftext|>"))
        branches = np.full((len(rows), length), _PADDING_BRANCH)
        positions = np.zeros((3, len(rows), length), np.int64)
        cell_places, cell_rows, cell_numbers = [], [], []
        learned = _Learned(punctuation)
        for number, row in enumerate(rows):
            for branch, (index, start) in enumerate(row.members, 1):
                sample, conversation = samples[index], conversations[index]
                own = slice(0 if branch == 1 else row.shared, len(sample.ids))
                at = slice(start + own.start, start + own.stop)
                ids[number, at] = sample.ids[own]
                branches[number, at] = branch
                branches[number, : row.shared] = 0
                positions[:, number, at] = sample.positions[:, own]
                first_token = number * length + start
                numbers = _numbers(conversation)
                for medium, first, of_kind in zip(
                    conversation.media, sample.cells, numbers, strict=True
                ):
                    count = math.prod(_cells_of(medium.example))
                    cell_places.append(first_token + first + np.arange(count))
                    cell_rows.append(first_rows[id(medium.example)] + np.arange(count))
                    cell_numbers.append(np.full(count, of_kind))
                for said, (places, starts), named in zip(
                    conversation.said, sample.answers, sample.named, strict=True
                ):
                    if branch > 1 and places[0] < row.shared:
                        continue  # of the beginning, which is there but once
                    learned.add(said, [first_token + place for place in places], starts)
                    learned.named += [(first_token + place, second) for place, second in named]
        seen = tower_batch(list(examples.values()))
        answer_places = np.array(learned.places)
        return Batch(
            tower=seen.tower,
            cells=seen.cells,
            token_ids=torch.from_numpy(ids),
            positions=torch.from_numpy(positions),
            branches=torch.from_numpy(branches),
            cell_places=torch.from_numpy(np.concatenate(cell_places)),
            cell_rows=torch.from_numpy(np.concatenate(cell_rows)),
            cell_numbers=torch.from_numpy(np.concatenate(cell_numbers)),
            answer_places=torch.from_numpy(answer_places - 1),
            answer_ids=torch.from_numpy(ids.ravel()[answer_places]),
            answer_weights=torch.tensor(learned.weights),
            turns=[],
            asked=learned.targets(),
        )


@dataclass
class _Row:
    """Conversations one after another, none of which sees another.

    Attributes:
        shared: how many tokens at the beginning of all of them are there but once.
        members: which of the conversations, and where its first token is or would be.
        length: in tokens.
    """

    shared: int
    members: list[tuple[int, int]] = field(default_factory=list)
    length: int = 0


def _rows(samples: Sequence[TokenizedConversation]) -> list[_Row]:
    """Rows of about the same length, so that little is padding."""
    shared = _beginning(samples)
    longest = max(_ROW, *(len(sample.ids) for sample in samples))
    if shared:
        longest = max(longest, 2 * _ROW + shared)
    rows: list[_Row] = []
    for index in sorted(range(len(samples)), key=lambda index: -len(samples[index].ids)):
        more = len(samples[index].ids) - shared
        row = next((row for row in rows if row.length + more <= longest), None)
        if row is None:
            row = _Row(shared, length=shared)
            rows.append(row)
        row.members.append((index, row.length - shared))
        row.length += more
    return rows


def _beginning(samples: Sequence[TokenizedConversation]) -> int:
    """How many tokens all begin with, if they are worth it: a long system prompt."""
    ids = [sample.ids for sample in samples]
    least, most = min(ids), max(ids)  # what these two share, all do
    count = next(
        (i for i, (one, other) in enumerate(zip(least, most, strict=False)) if one != other), 0
    )
    return count if len(samples) > 1 and count >= _LONG_BEGINNING else 0


class _Learned:
    """The tokens that are learned, gathered answer by answer."""

    def __init__(self, punctuation: bool) -> None:
        self._punctuation = punctuation
        self.places: list[int] = []
        self.weights: list[float] = []
        self.values: list[list[float]] = []
        self.known: list[list[bool]] = []
        self.named: list[tuple[int, int]] = []
        self.numbers: list[int] = []

    def add(self, said: Said, places: Sequence[int], starts: Sequence[int]) -> None:
        """One message of the model: its tokens, and at which of its characters each begins."""
        given = said.given if self._punctuation else (*said.given, *said.punctuation)
        chosen = [
            (place, start)
            for place, start in zip(places, starts, strict=True)
            if not any(first <= start < last for first, last in given)
        ]
        second = None
        if said.task == "event_time" and said.moments:
            second = said.moments[0][1]
        for place, start in chosen:
            box = next((box for end, box in said.spots if start < end), None)
            edges = [0.0] * 4 if box is None else [edge / GEOMETRY.factor for edge in box]
            self.places.append(place)
            self.weights.append(len(chosen) ** -0.5)
            self.values.append([*edges, float(second or 0)])
            self.known.append([box is not None] * 4 + [second is not None])
            self.numbers.append(ALONE if said.number is None else said.number)

    def targets(self) -> AskedTargets:
        """What the tokens are about."""
        return AskedTargets(
            torch.tensor(self.values),
            torch.tensor(self.known),
            torch.tensor([place for place, _ in self.named], dtype=torch.int64),
            torch.tensor([float(second) for _, second in self.named]),
            torch.tensor(self.numbers),
        )


def _numbers(conversation: Conversation) -> list[int]:
    """Of each medium, which of its kind it is; `ALONE` if there is no other."""
    kinds = [medium.kind for medium in conversation.media]
    return [
        kinds[:place].count(kind) if kinds.count(kind) > 1 else ALONE
        for place, kind in enumerate(kinds)
    ]


def _cells_of(example: Example) -> tuple[int, int, int]:
    t, h, w = example.grid
    return t, h // _MERGE, w // _MERGE
