"""Conversations are read as a server reads them, and what is to be learned of them is learned."""

import math
import re

import numpy as np
import pytest
import torch
from reference import Medium as Shown
from reference import Reference
from transformers import AutoTokenizer

from saccade.demo.checkpoints.tokenizer import build_tokenizer
from saccade.demo.conversations.draw import (
    COPIES,
    CYCLE,
    FORMS,
    kind_of,
    talk_conversations,
)
from saccade.demo.training.asked import ALONE

KINDS = sorted({*COPIES, *CYCLE, *FORMS} - {"questions", "clip questions"})


@pytest.mark.parametrize("kind", KINDS)
def test_the_prompt_is_that_of_the_chat_template(kind, folder, batcher, step_of):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for conversation in talk_conversations(3, step_of(kind)):
        expected = tokenizer.apply_chat_template(
            conversation.messages, tools=conversation.tools or None, tokenize=False
        )
        assert batcher.prompt(conversation) == expected
        asked = tokenizer.apply_chat_template(
            conversation.messages[:-1],
            tools=conversation.tools or None,
            tokenize=False,
            add_generation_prompt=True,
        )
        assert batcher.prompt(conversation, asked=True) == asked
        assert expected.startswith(asked + conversation.said[-1].text)


@pytest.mark.parametrize("kind", ["one", "several", "screens", "clips", "keys", "calls"])
def test_a_row_of_conversations_equals_each_of_them_alone(kind, model, folder, batcher, step_of):
    conversations = talk_conversations(5, step_of(kind))[:6]
    batch = batcher.batch(conversations)
    assert len(batch.token_ids) < len(conversations)
    with torch.no_grad():
        logits, _, _ = model(batch)
    by_place = dict(zip(batch.answer_places.tolist(), logits, strict=True))
    reference, checked = Reference(folder), 0
    for conversation in conversations:
        answer = batcher._tokenizer.encode(conversation.said[-1].text).ids
        pieces = []
        media = iter(conversation.media)
        text = batcher.prompt(conversation, asked=True)
        for piece in re.split(r"(<\|(?:image|video)_pad\|>)", text):
            if piece.endswith("_pad|>"):
                example = next(media).example
                pieces.append(Shown(example.raster, example.seconds_per_grid))
            else:
                pieces.append(batcher._tokenizer.encode(piece).ids)
        expected = reference.logits(pieces, answer)
        found = [
            _place_of(batch, conversation, batcher, row) for row in range(len(batch.token_ids))
        ]
        (first,) = [place for place in found if place is not None]
        for step, values in enumerate(expected):
            if (place := first + step) in by_place:
                torch.testing.assert_close(by_place[place], values, atol=2e-4, rtol=2e-4)
                checked += 1
    assert checked > 20


def _place_of(batch, conversation, batcher, row):
    """The flattened place of the token before the last answer; None: not in this row."""
    whole = batcher.tokenized(conversation)
    places, _ = whole.answers[-1]
    ids, branches = batch.token_ids[row].tolist(), batch.branches[row].tolist()
    for branch in range(1, max(branches) + 1):
        mine = [i for i, other in enumerate(branches) if other in (0, branch)]
        if [ids[i] for i in mine] == whole.ids:
            positions = batch.positions[:, row, mine].numpy()
            if np.array_equal(positions, whole.positions):
                return row * len(ids) + mine[places[0]] - 1
    return None


def test_what_a_grammar_gives_is_not_learned(batcher):
    seen = 0
    for step in range(40):
        if "questions" in kind_of(step):
            continue
        conversations = talk_conversations(1, step)
        batch = batcher.batch(conversations)
        assert torch.equal(batch.answer_ids, batch.token_ids.flatten()[batch.answer_places + 1])
        learned = build_tokenizer().decode(batch.answer_ids.tolist(), skip_special_tokens=False)
        for conversation in conversations:
            for said in conversation.said:
                if said.given and said.given[0][1] < len(said.text):  # else others' words
                    seen += 1
                    first, last = said.given[0]
                    assert said.text[last:].startswith('":')
                    assert said.punctuation[0][0] == last
                    assert said.text[first] in "[{"
        # A long beginning that all have is there, and learned, once a row.
        ends, said = learned.count("<|im_end|>"), sum(len(one.said) for one in conversations)
        assert ends in (said, said - len(conversations) + len(batch.token_ids))
    assert seen > 5


def test_punctuation_before_values_is_learned_in_the_last_phase(batcher, step_of):
    seen = 0
    for conversation in talk_conversations(4, step_of("forms")):
        said = conversation.said[-1]
        if not said.punctuation:
            continue
        seen += 1
        ((first, last),) = said.punctuation
        assert re.fullmatch(r'":\s?"?', said.text[first:last])
        before, after = (batcher.batch([conversation], punctuation=on) for on in (False, True))
        learned = [batch.answer_ids.tolist() for batch in (before, after)]
        more = learned[1][: len(learned[1]) - len(learned[0])]
        assert learned[1][len(more) :] == learned[0]
        assert batcher._tokenizer.decode(more).strip() == said.text[first:last].strip()
    assert seen > 1


def test_images_are_told_apart_by_their_numbers(batcher, step_of):
    """Each cell of several images has its image's number, and the answer that of the one asked."""
    found = set()
    for number in range(6):
        conversations = talk_conversations(3, step_of("several", number))
        for conversation in conversations:
            batch = batcher.batch([conversation])
            counts = [math.prod(one.example.grid) // 4 for one in conversation.media]
            kinds = [one.kind for one in conversation.media]
            numbers = batch.cell_numbers.split(counts)
            for place, (kind, cells) in enumerate(zip(kinds, numbers, strict=True)):
                alone = kinds.count(kind) == 1
                assert set(cells.tolist()) == {ALONE if alone else kinds[:place].count(kind)}
            asked = [said.number for said in conversation.said]
            assert set(batch.asked.numbers.tolist()) == {
                ALONE if one is None else one for one in asked
            }
            found.update(asked)
            for message, one in zip(conversation.messages[-2::-2], asked[::-1], strict=False):
                text = " ".join(part.get("text", "") for part in message["content"]).lower()
                for ordinal, word in enumerate(("first", "second", "third", "fourth")):
                    if f"in the {word} image" in text or f"in image {ordinal + 1}" in text:
                        assert one == ordinal, text
    assert found >= {None, 0, 1, 2, 3}
