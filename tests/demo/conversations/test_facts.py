"""What conversations say is true, and the same every time."""

import json
import re
from collections import Counter

import numpy as np
import pytest
import torch

from saccade.demo.conversations.draw import (
    talk_conversations,
)
from saccade.demo.conversations.facts import NONE, picture_facts, time_fact
from saccade.demo.conversations.pages import page_fact, right_words, words_of
from saccade.demo.world.examples import long_clip_example
from saccade.demo.world.questions import Seen, SeenText

THINGS = [
    Seen("circle", "red", (10.2, 20.0, 50.4, 60.0)),
    Seen("star", "blue", (70.0, 10.0, 90.0, 30.0)),
    Seen("star", "green", (60.0, 40.0, 99.0, 80.0)),
]
WORD = SeenText("EXIT", tuple((10.0 * i, 5.0, 10.0 * i + 9, 20.0) for i in range(4)))
NUMBER = SeenText("42", ((30.0, 50.0, 40.0, 70.0), (44.0, 50.0, 55.0, 70.0)))


def test_facts_are_true():
    facts = [fact for seed in range(30) for fact in picture_facts(_rng(seed), THINGS, WORD)]
    answers = {(fact.task, fact.subject): fact.answer for fact in facts}
    assert answers[("colour_kind", "circle")] == "red"
    assert answers[("colour_kind", "blue")] == "star"
    assert ("colour_kind", "star") not in answers  # there are two
    assert answers[("colour_kind", "cross")] == NONE
    assert answers[("counting", "stars")] == "2"
    assert answers[("counting", "objects")] == "3"
    assert answers[("reading", "text")] == "EXIT"
    assert json.loads(answers[("boxes", "blue star")])[0]["bbox_2d"] == [70, 10, 90, 30]
    assert len(json.loads(answers[("boxes", "stars")])) == 2
    assert [
        answer for (task, _), answer in answers.items() if answer == "[]" and task != "boxes"
    ] == []
    assert answers[("caption", "")] == "A red circle, a green star and a blue star."
    (circle,) = {fact.sentence for fact in facts if fact.subject == "circle"}
    assert circle == "The circle is red."
    for fact in facts:
        for question in fact.questions:
            assert fact.task == "caption" or "{where}" in question, question


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_page_is_html_and_its_words_are_counted():
    fact = page_fact([NUMBER, WORD])
    assert words_of(fact.answer) == [("EXIT", [0, 5, 39, 20]), ("42", [30, 50, 55, 70])]
    assert right_words(fact.answer, fact.answer) == (2, 2)
    assert right_words(fact.answer.replace("EXIT", "EXIL"), fact.answer) == (1, 2)
    assert right_words(fact.answer.replace("30 50 55 70", "130 50 155 70"), fact.answer) == (1, 2)
    assert right_words("", fact.answer) == (0, 2)


def test_events_of_long_clips_are_seen_when_they_happen():
    for seed in range(5):
        clip, example = long_clip_example(_rng(seed), (3, 3), 300, 0.5)
        assert clip.frames == 300
        assert example.grid[0] == 75
        assert example.targets.event.any()
        for event in clip.events:
            assert clip.at(event.second - 0.5) != clip.at(event.second)
    assert time_fact("the red star leave", "", None).answer == NONE


def test_a_screen_on_which_nothing_can_be_clicked_is_left_out():
    """Also of a conversation that others have begun: the step has one."""
    for one in talk_conversations(0, 1183):
        messages = one.messages
        for number, message in enumerate(messages[1:]):
            if message["role"] == "tool":
                assert messages[number]["tool_calls"]


def test_a_step_has_the_same_conversations_every_time(batcher):
    first, again = (batcher.batch(talk_conversations(7, 1)) for _ in range(2))
    assert torch.equal(first.token_ids, again.token_ids)
    assert torch.equal(first.tower.patches, again.tower.patches)


@pytest.mark.parametrize("kind", ["repeats", "keys", "calls"])
def test_what_is_copied_stands_in_the_prompt(kind, batcher, step_of):
    conversations = [
        one for number in range(3) for one in talk_conversations(2, step_of(kind, number))
    ]
    for conversation in conversations:
        prompt, (said,) = batcher.prompt(conversation, asked=True), conversation.said
        for word in re.findall(r"[a-z_]+|\d+", said.text):
            if word not in ("tool", "call", "tool_call", "name", "arguments"):
                assert word in prompt, (said.text, prompt)
    answers = {conversation.said[0].text for conversation in conversations}
    assert len(answers) > 0.9 * len(conversations)
    first = Counter(re.search(r"[a-z_]+", answer)[0] for answer in answers)
    if kind != "calls":  # nothing to be guessed
        assert max(first.values()) < 0.1 * len(answers)
