"""The load generator against a real server: what it measures, and that it hides no failure."""

import socket
from collections import Counter

import pytest

from saccade.benchmarks.common.figures import find_problems, summarise
from saccade.benchmarks.common.load import run_load
from saccade.benchmarks.common.workloads import Workload

# From the fake server beside this file.
TEXT_TOKENS = 21
PIECES = 3
PAUSE = 0.02


def error_counts(outcomes) -> dict[str, int]:
    return dict(Counter(outcome.error for outcome in outcomes if outcome.error is not None))


WORKLOAD = Workload("image", ((56, 56), (112, 56)), 8)


async def test_a_clean_run(fake_server):
    requests = WORKLOAD.requests(range(10), "fake")
    load = await run_load(fake_server.url, requests, 4, 30)
    assert [outcome.index for outcome in load.outcomes] == list(range(10))
    assert find_problems(requests, load.outcomes, TEXT_TOKENS) == []
    for outcome in load.outcomes:
        assert outcome.text == "A red car"
        assert outcome.finish_reason == "length"
        assert outcome.first_token >= PAUSE
        assert len(outcome.gaps) <= PIECES - 1
        assert outcome.first_token + sum(outcome.gaps) <= outcome.total <= load.seconds
    figures = summarise(requests, load)
    assert figures.requests == 10
    assert figures.output_tokens == 10 * PIECES
    assert figures.visual_tokens == 5 * 4 + 5 * 8
    assert figures.prompt_tokens == 10 * (TEXT_TOKENS + 2) + figures.visual_tokens
    assert figures.requests_per_second == pytest.approx(10 / load.seconds)
    assert figures.output_tokens_per_second == pytest.approx(30 / load.seconds)
    assert figures.ttft_ms.p50 <= figures.ttft_ms.p90 <= figures.ttft_ms.p99 <= figures.e2e_ms.p99


@pytest.mark.parametrize("concurrency", [1, 5])
async def test_never_more_at_a_time_than_asked(fake_server, concurrency):
    await run_load(fake_server.url, WORKLOAD.requests(range(15), "fake"), concurrency, 30)
    assert len(fake_server.bodies) == 15
    assert fake_server.most_active == concurrency


async def test_failures_are_counted_by_kind_and_the_rest_is_answered(fake_server):
    fake_server.behaviours = [
        "http_429",
        "",
        "stream_error",
        "http_429",
        "cut",
        "",
        "malformed",
        "http_500",
    ]
    requests = WORKLOAD.requests(range(10), "fake")
    load = await run_load(fake_server.url, requests, 1, 30)
    assert error_counts(load.outcomes) == {
        "http_429": 2,
        "http_500": 1,
        "incomplete": 1,
        "malformed": 1,
        "stream_error": 1,
    }
    assert [outcome.error for outcome in load.outcomes][:3] == ["http_429", None, "stream_error"]
    assert "the engine died" in load.outcomes[2].detail
    assert "too busy" in load.outcomes[0].detail
    assert len(find_problems(requests, load.outcomes, TEXT_TOKENS)) == 6


@pytest.mark.parametrize(
    ("behaviour", "problem"),
    [
        ("silent", "empty"),
        ("aborted", "finish_reason is 'abort'"),
        ("miscounted", "usage.prompt_tokens is 28, but 21 for the text"),
        ("misdetailed", "usage says 5 image tokens, planned are 4"),
    ],
)
async def test_wrong_answers_are_found(fake_server, behaviour, problem):
    fake_server.behaviours = ["", behaviour]
    requests = Workload("image", ((56, 56),), 8).requests(range(3), "fake")
    load = await run_load(fake_server.url, requests, 1, 30)
    problems = find_problems(requests, load.outcomes, TEXT_TOKENS)
    assert len(problems) == 1
    assert problems[0].startswith("request 1: ")
    assert problem in problems[0]


async def test_a_server_that_falls_silent_is_a_timeout(fake_server):
    fake_server.behaviours = ["hang"]
    load = await run_load(fake_server.url, WORKLOAD.requests(range(1), "fake"), 1, 1)
    assert error_counts(load.outcomes) == {"timeout": 1}


async def test_nobody_there_is_a_connection_error():
    with socket.socket() as bound:  # bound but not listening: refuses every connection
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        load = await run_load(url, WORKLOAD.requests(range(2), "fake"), 2, 5)
    assert error_counts(load.outcomes) == {"connection": 2}
