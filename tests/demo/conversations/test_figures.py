"""Every figure of the evaluation about conversations has cases that the right answer wins."""

import re
from collections import Counter

import pytest

from saccade.demo.conversations.conversation import Conversation, Said
from saccade.demo.evaluation.cases import TARGETS
from saccade.demo.evaluation.requests import request
from saccade.demo.evaluation.talk_cases import BOTH_ORDERS, TALK_FIGURES, as_case, talk_cases


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
