"""Where two answers part: at a near tie, or at a mistake."""

import math

import pytest

from saccade.benchmarks.common.near_ties import parts_at_near_tie

END = "<|im_end|>"


def token(text: str, share: float, **others: float) -> dict:
    def entry(text: str, share: float) -> dict:
        return {"token": text, "bytes": list(text.encode()), "logprob": math.log(share)}

    likeliest = [entry(text, share), *(entry(*other) for other in others.items())]
    return {**likeliest[0], "top_logprobs": likeliest}


ANSWER = [
    token("A", 0.9, An=0.1),
    token(" red", 0.4, **{" blue": 0.38, " green": 0.1}),
    token(" car", 0.5, **{END: 0.45}),
    token(END, 0.5, **{" of": 0.48, ",": 0.02}),
]


@pytest.mark.parametrize(
    "other",
    ["A red car", "A blue car", "A blue sky", "A red", "A red car of mine"],
)
def test_as_likely_tokens_are_near_ties(other):
    assert parts_at_near_tie(ANSWER, other)


@pytest.mark.parametrize(
    "other", ["An apple", "A green car", "A", "A red car, no", "", "A red van"]
)
def test_anything_else_is_not(other):
    assert not parts_at_near_tie(ANSWER, other)


def test_answers_without_logprobs_tell_nothing():
    assert not parts_at_near_tie([], "A red car")


@pytest.mark.parametrize(("share", "tie"), [(0.45, True), (0.2, False)])
def test_a_token_may_begin_another(share, tie):
    answer = [
        token("Red,", 0.9),
        token(" a", 0.5, **{" an": share}),
        token(" green", 0.9),
        token(" apple", 0.9),
        token(END, 0.9),
    ]
    assert parts_at_near_tie(answer, "Red, an orange") is tie
    assert parts_at_near_tie(answer, "Red, a green apple")
    for other in ("Red, a nice apple", "Red, a green pear", "Red, a"):
        assert not parts_at_near_tie(answer, other)
