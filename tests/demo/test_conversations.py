"""Conversations are true, read as a server reads them, and ask every figure of the evaluation."""

import json
import math
import re
from collections import Counter

import numpy as np
import pytest
import torch
from reference import Medium as Shown
from reference import Reference
from transformers import AutoTokenizer

from saccade.demo import train
from saccade.demo.checkpoints.tokenizer import build_tokenizer
from saccade.demo.conversations.conversation import Conversation, Said
from saccade.demo.conversations.draw import (
    COPIES_FROM,
    COPIES_UNTIL,
    REVIEW_FROM,
    SEVERAL_FROM,
    kind_of,
    talk_conversations,
)
from saccade.demo.conversations.facts import NONE, picture_facts, time_fact
from saccade.demo.conversations.pages import page_fact, right_words, words_of
from saccade.demo.evaluation.cases import TARGETS
from saccade.demo.evaluation.requests import request
from saccade.demo.evaluation.talk_cases import BOTH_ORDERS, TALK_FIGURES, as_case, talk_cases
from saccade.demo.training.asked import ALONE
from saccade.demo.training.model.heads import TalkHeads
from saccade.demo.training.model.language import TrainingModel
from saccade.demo.training.schedule import TalkSchedule
from saccade.demo.training.state import SPEC, TALK_SPEC, Run, export_checkpoint
from saccade.demo.training.talk_batch import TalkBatcher
from saccade.demo.world.examples import long_clip_example
from saccade.demo.world.questions import Seen, SeenText

STEPS: dict[str, list[int]] = {}
for step in range(SEVERAL_FROM):
    STEPS.setdefault(kind_of(step), []).append(step)
KINDS_OF_STEPS = sorted(kind for kind in STEPS if "questions" not in kind)
THINGS = [
    Seen("circle", "red", (10.2, 20.0, 50.4, 60.0)),
    Seen("star", "blue", (70.0, 10.0, 90.0, 30.0)),
    Seen("star", "green", (60.0, 40.0, 99.0, 80.0)),
]
WORD = SeenText("EXIT", tuple((10.0 * i, 5.0, 10.0 * i + 9, 20.0) for i in range(4)))
NUMBER = SeenText("42", ((30.0, 50.0, 40.0, 70.0), (44.0, 50.0, 55.0, 70.0)))


@pytest.fixture(scope="module")
def batcher() -> TalkBatcher:
    return TalkBatcher(build_tokenizer())


@pytest.fixture(scope="module")
def model() -> TrainingModel:
    return TrainingModel(SPEC)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    target = tmp_path_factory.mktemp("checkpoint")
    return export_checkpoint(model.state_dict(), target, torch.float32)


def step_of(kind: str, number: int = 0) -> int:
    return STEPS[kind][number]


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


@pytest.mark.parametrize("kind", KINDS_OF_STEPS)
def test_the_prompt_is_that_of_the_chat_template(kind, folder, batcher):
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
def test_a_row_of_conversations_equals_each_of_them_alone(kind, model, folder, batcher):
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
                    assert said.text[last - 1] in '": \n' or said.text[last - 1].isspace()
                    assert said.text[first] in "[{"
        # A long beginning that all have is there, and learned, once a row.
        ends, said = learned.count("<|im_end|>"), sum(len(one.said) for one in conversations)
        assert ends in (said, said - len(conversations) + len(batch.token_ids))
    assert seen > 5


def test_a_step_has_the_same_conversations_every_time(batcher):
    first, again = (batcher.batch(talk_conversations(7, 1)) for _ in range(2))
    assert torch.equal(first.token_ids, again.token_ids)
    assert torch.equal(first.tower.patches, again.tower.patches)


def test_a_screen_on_which_nothing_can_be_clicked_is_left_out():
    """Also of a conversation that others have begun: the step has one."""
    for one in talk_conversations(0, 1183):
        messages = one.messages
        for number, message in enumerate(messages[1:]):
            if message["role"] == "tool":
                assert messages[number]["tool_calls"]


@pytest.mark.parametrize("figure", TALK_FIGURES)
def test_every_figure_has_cases_that_the_right_answer_wins(figure):
    cases = talk_cases(figure, 3, 4)
    again = talk_cases(figure, 3, 4)
    assert [case.conversation.messages for case in cases] == [
        case.conversation.messages for case in again
    ]
    for case in cases:
        assert case.score(case.expected) == 1
        assert case.score("I cannot say") == 0
        sent = request(case.conversation, figure == "grammar")
        assert [message["role"] for message in sent["messages"]][-1] in ("user", "tool")
        assert ("response_format" in sent) == (figure == "grammar")
        assert ("tools" in sent) >= (figure == "call")
        kinds = Counter(
            part["type"]
            for message in sent["messages"]
            if isinstance(message["content"], list)
            for part in message["content"]
        )
        assert kinds["image_url"] + kinds["video_url"] == len(case.conversation.media)


@pytest.mark.parametrize("task", BOTH_ORDERS)
def test_both_orders_ask_the_same(task):
    pairs = zip(
        talk_cases(f"{task}_image_first", 0, 5), talk_cases(f"{task}_text_first", 0, 5), strict=True
    )
    for image_first, text_first in pairs:
        assert image_first.expected == text_first.expected
        assert image_first.question.strip() == text_first.question.strip()
        one, other = (
            case.conversation.messages[-2]["content"] for case in (image_first, text_first)
        )
        assert one[0] == other[-1] == {"type": "image"}


@pytest.mark.parametrize(
    ("figure", "answer", "score"),
    [
        ("call", lambda text: re.sub(r"\[\d+", "[9999", text), 0),
        ("call", lambda text: text.replace("_click", "_clic"), 0),
        ("json", lambda text: text[:-1], 0),
        ("json", lambda text: text.replace(": ", ":\n  "), 1),
        ("ten_minutes", lambda text: f"{text[:2]}:{(int(text[3:]) + 30) % 60:02d}", 0),
    ],
)
def test_nearly_right_answers(figure, answer, score):
    for case in talk_cases(figure, 1, 3):
        changed = answer(case.expected)
        assert changed != case.expected or "move" in changed
        if changed != case.expected:
            assert case.score(changed) == score


def test_a_point_may_be_anywhere_within_its_box():
    conversation = Conversation()
    conversation.user("Point to the red star.")
    right = '[{"point_2d": [50, 60], "label": "red star"}]'
    box = (40.0, 45.0, 60.0, 75.0)
    conversation.answer(Said(right, spots=((len(right), box),), task="points"))
    case = as_case("two_images", conversation)
    moved = {"[41, 74]": 1, "[39, 60]": 0, "[50, 76]": 0, "[50]": 0}
    for place, score in moved.items():
        assert case.score(right.replace("[50, 60]", place)) == score
    assert case.score(right.replace("star", "square")) == 0
    assert case.score("[]") == 0


def test_what_only_a_grammar_asks_is_no_second_turn():
    for case in talk_cases("second_turn", 3, 60):
        assert not case.conversation.said[-1].given
        assert case.conversation.said[-1].task != "caption"


def test_every_target_is_of_a_figure():
    assert set(TALK_FIGURES) - set(TARGETS) == {
        f"{task}_{order}_first" for task in BOTH_ORDERS for order in ("image", "text")
    }


def test_a_model_that_has_grown_says_what_it_said_before(tmp_path, batcher):
    first = Run(tmp_path / "first", seed=1)
    checkpoint = first.export()
    small = TrainingModel(SPEC)
    grown = Run(tmp_path / "talk", seed=2, talk=True)
    grown.start_from(checkpoint)
    small.load_state_dict({k: v.bfloat16().float() for k, v in first.average.state_dict().items()})
    batch = batcher.batch(talk_conversations(1, 1)[:3])
    with torch.no_grad():
        torch.testing.assert_close(grown.model(batch)[0], small(batch)[0])
    frozen = [name for name, p in grown.model.named_parameters() if not p.requires_grad]
    assert frozen
    assert all(name.startswith("visual.") for name in frozen)
    before = {name: weight.clone() for name, weight in grown.model.state_dict().items()}
    losses = [train.train_step(grown, batch, 1.0)["answers"] for _ in range(3)]
    assert losses[-1] < losses[0]
    changed = {
        name for name, w in grown.model.state_dict().items() if not torch.equal(w, before[name])
    }
    assert changed
    assert not any(name.startswith("visual.") for name in changed)
    config = json.loads((grown.export() / "config.json").read_text())
    assert config["num_hidden_layers"] == TALK_SPEC.language.layers


def test_the_command_trains_conversations(tmp_path, monkeypatch, folder):
    monkeypatch.setattr(train, "_HELD_OUT", {"pictures": 2, "clips": 2})
    monkeypatch.setattr(train, "_TALK_CASES", 1)
    flags = ["--talk", "--talk-steps", "2", "--plain", "--threads", "1", "--start", str(folder)]
    assert train.main([*flags, "--folder", str(tmp_path)]) == 0
    talk = tmp_path / "talk"
    lines = [json.loads(line) for line in (talk / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 2
    assert set(TALK_FIGURES) <= set(lines[-1]["accuracy"])
    weights = talk / "checkpoint" / "model.safetensors"
    assert weights.stat().st_size < 20e6
    made = weights.stat().st_mtime_ns
    assert train.main([*flags, "--folder", str(tmp_path)]) == 0
    assert weights.stat().st_mtime_ns == made, "what is over is not trained again"


def test_the_learning_rate_of_conversations_warms_up_and_falls_in_each_phase():
    schedule = TalkSchedule(SEVERAL_FROM + 2000)
    begun = (0, 2000, COPIES_FROM, COPIES_UNTIL, REVIEW_FROM, SEVERAL_FROM)
    rates = [schedule.rate_share(step) for step in begun]
    assert rates == pytest.approx([0.003, 0.15, 0.25, 0.2, 0.18, 0.15])
    over = [schedule.rate_share(step - 1) for step in (REVIEW_FROM, SEVERAL_FROM, schedule.steps)]
    assert over == pytest.approx([0.1413, 0.0919, 0.003], abs=1e-4)
    assert schedule.rate_share(SEVERAL_FROM + 1000) == pytest.approx(0.075)


@pytest.mark.parametrize("kind", ["repeats", "keys", "calls"])
def test_what_is_copied_stands_in_the_prompt(kind, batcher):
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


def test_copies_are_most_steps_for_a_while_and_some_later():
    kinds = {"repeats", "keys", "calls"}
    shares = [
        sum(kind_of(step) in kinds for step in range(start, start + 100)) / 100
        for start in (0, COPIES_FROM - 100, COPIES_FROM, COPIES_UNTIL, REVIEW_FROM, SEVERAL_FROM)
    ]
    assert shares == [0, 0, 0.8, 0.4, 0.2, 0.2]


def test_images_are_told_apart_by_their_numbers(batcher):
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


def test_the_numbers_of_images_are_learned_from_their_phase_on(batcher):
    batch = batcher.batch(talk_conversations(3, step_of("several", 0)))
    heads = TalkHeads(SPEC.language.hidden, 2, 3, 4, 5)
    states = TrainingModel(TALK_SPEC)(batch)[2]
    before, after = (heads.of_language(states, batch, numbered) for numbered in (False, True))
    assert after.keys() - before.keys() == {"number", "number asked"}
    assert all(after[name].requires_grad for name in after)
