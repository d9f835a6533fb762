"""Requests whose right answers are known, sent among the load where the bundled model is served.

They are questions about drawn images that the model has learnt to answer. What it says of other
content is right or wrong as the model is; what it says of these shows whether a server under load
answers the request that was made.
"""

from collections.abc import Sequence

from saccade.benchmarks.load.asking import ask, request_body
from saccade.benchmarks.load.profiles import Sample
from saccade.demo.evaluation.cases import make_cases
from saccade.demo.evaluation.requests import request

EVERY = 8  # of so many requests one is a witness
_FIGURE = "colour_kind"  # of which the bundled model knows all
_TRIED, _LEAST = 4, 3


def make_witnesses(seed: int, count: int) -> list[Sample]:
    """So many, a pure function of the arguments."""
    cases = make_cases(seed, count, only=(_FIGURE,))
    return [Sample(request(case.conversation)["messages"], answer=case.expected) for case in cases]


def with_witnesses(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """The samples with a witness for the last of every `EVERY`, or for the last of fewer."""
    mixed = list(samples)
    places = sorted({*range(EVERY - 1, len(mixed), EVERY), len(mixed) - 1})
    for place, witness in zip(places, make_witnesses(seed, len(places)), strict=True):
        mixed[place] = witness
    return mixed


def knows_answers(url: str, model: str, max_tokens: int) -> bool:
    """Whether the server's model is one that has learnt them.

    Raises:
        LoadError: the server does not answer.
    """
    right = 0
    for witness in make_witnesses(0, _TRIED):
        text, _ = ask(url, request_body(model, witness.messages, max_tokens, ends=True))
        right += text.strip() == witness.answer
    return right >= _LEAST
