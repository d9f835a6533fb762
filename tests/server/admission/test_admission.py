"""Admission without a server: nothing is held twice or lost, and what is held is bounded."""

import asyncio
import random

import pytest
from admission_cases import LARGE, NOTHING, admitted, capacity, settle, waiting
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.server.admission.controller import Admission, Overloaded
from saccade.server.admission.pricing import (
    DEFAULT_ANSWER_TOKENS,
    RequestClass,
    RequestEstimate,
    Resources,
    estimate_request,
    text_tokens,
)
from saccade.server.core.errors import ApiError
from saccade.server.core.lifecycle import Lifecycle
from saccade.server.core.settings import RequestLimits
from saccade.server.middleware.admission import AdmissionMiddleware
from saccade.server.request.field_checks import EngineOptions
from saccade.server.request.parsed_request import CHAT, COMPLETION, parse_request

prices = st.builds(
    RequestEstimate,
    prompt=st.integers(0, 7000),
    answer=st.integers(1, 3000),
    completions=st.integers(1, 20),
    media_bytes=st.integers(0, 200_000),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(prices, min_size=1, max_size=40), st.integers(0, 2**32))
def test_never_over_budget_and_everything_ends(asked, seed):
    """Random arrivals, cancellations and time-outs, with the sums checked after every step."""

    async def run() -> None:
        choose = random.Random(seed)
        admission = Admission(capacity(queue_seconds=0.05))
        held = {}

        def check() -> None:
            charged = sum((held[task] for task in held), NOTHING)
            # Those that were let in but have not run since are not in ``held`` yet.
            assert charged <= admission.in_flight
            text = admission._held[RequestClass.TEXT]
            media = admission.in_flight - text
            for part in (text, media, admission.in_flight - Resources(sequences=media.sequences)):
                assert part <= admission.limits.total
            assert admission._held[RequestClass.LARGE] <= admission.limits.large_limit

        async def one(price: RequestEstimate) -> None:
            ticket = admission.arrive(choose.randrange(200))
            try:
                if choose.random() < 0.5:
                    admission.fetch(ticket, choose.random() < 0.5)
                    await asyncio.sleep(choose.choice([0, 0.01]))
                await admission.admit(ticket, price)
                _, held[asyncio.current_task()] = admission.limits.classify(price)
                check()
                await asyncio.sleep(choose.choice([0, 0.01, 0.03]))
            finally:
                held.pop(asyncio.current_task(), None)
                admission.release(ticket)
                admission.release(ticket)  # changes nothing
                check()

        tasks = []
        for price in asked:
            tasks.append(asyncio.ensure_future(one(price)))
            await asyncio.sleep(choose.choice([0, 0, 0.002]))
            if choose.random() < 0.2:
                choose.choice(tasks).cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in outcomes:
            assert outcome is None or isinstance(outcome, ApiError | asyncio.CancelledError)
        assert admission.in_flight == NOTHING
        assert admission.queued == 0
        assert admission._waiting_bytes == 0

    asyncio.run(run())


def test_full_queue_refuses_but_keeps_places_for_small_ones():
    async def run() -> None:
        admission = Admission(capacity())
        tickets = [admission.arrive(10) for _ in range(15)]
        for ticket in tickets[:14]:
            admission.fetch(ticket, remote=True)
        with pytest.raises(Overloaded):
            admission.fetch(tickets[14], remote=True)
        with pytest.raises(Overloaded):
            admission.arrive(1_000_000)
        for _ in range(2):
            admission.fetch(admission.arrive(10), remote=False)
        with pytest.raises(Overloaded):
            admission.arrive(10)

    asyncio.run(run())


def test_bytes_of_waiting_requests_are_bounded():
    admission = Admission(capacity())
    large = admission.arrive(1_000_000)  # alone
    with pytest.raises(Overloaded, match="memory"):
        admission.arrive(1)
    admission.release(large)
    admission.arrive(1)


def test_media_of_waiting_requests_are_bounded_while_they_come_in():
    admission = Admission(capacity())
    first, second = admission.arrive(0), admission.arrive(0)
    admission.receive(first, 6_000)
    admission.receive(second, 4_000)
    with pytest.raises(Overloaded, match="memory"):
        admission.receive(first, 1)
    admission.release(second)
    admission.receive(first, 4_000)
    with pytest.raises(ApiError, match="more than 10000 bytes") as refused:
        admission.receive(first, 1)
    assert refused.value.status == 413
    admission.release(first)
    admission.arrive(10_000)


def test_deadline_of_the_queue():
    async def run() -> None:
        admission = Admission(capacity(queue_seconds=0.01))
        holder = [await admitted(admission, LARGE) for _ in range(2)]
        with pytest.raises(Overloaded, match="too long"):
            await admitted(admission, LARGE)
        assert admission.queued == 0
        for ticket in holder:
            admission.release(ticket)
        assert admission.in_flight == NOTHING

    asyncio.run(run())


def test_retry_after_is_the_time_the_queue_takes():
    async def run() -> None:
        now = 0.0
        admission = Admission(capacity(queue_seconds=20.0), lambda: now)
        holders = [await admitted(admission, LARGE) for _ in range(2)]
        assert admission.retry_after() == 20, "nothing is known yet: the longest wait"
        now = 10.0
        admission.release(holders.pop())  # 3100 tokens in 10 s
        holders.append(await admitted(admission, LARGE))
        waiters = [waiting(admission, LARGE) for _ in range(2)]
        await settle()
        assert admission.retry_after() == 20  # 6200 tokens at 310 a second
        for waiter in waiters:
            waiter.cancel()
        await settle()
        assert admission.retry_after() == 1

    asyncio.run(run())


def test_what_can_never_be_served_is_told_with_the_limit():
    async def run() -> None:
        admission = Admission(capacity())
        for _ in range(2):
            await admitted(admission, LARGE)
        tight = Admission(capacity(total=Resources(800, 16, 80_000)))
        never = tight.limits.refusal(751)
        assert never.status == 413
        assert "751 tokens" in never.message
        assert "700 tokens" in never.message
        over = admission.limits.refusal(6000)
        assert over.status == 400
        assert over.code == "context_length_exceeded"
        assert admission.in_flight == Resources(6200, 2, 2000)

    asyncio.run(run())


def test_price():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    messages = [{"role": "user", "content": [image, image, {"type": "text", "text": "x" * 100}]}]
    body = {"messages": messages, "max_tokens": 50, "n": 3}
    request = parse_request(body, CHAT, RequestLimits(), EngineOptions())
    # The text, and a few for what else is written in its messages.
    assert estimate_request(request, [64, 900], 5) == RequestEstimate(
        964 + 25 + 13, 50, 964, 3, 5, "messages[0].content[1]"
    )
    assert estimate_request(request, [900, 900], 5).param == "messages"
    body = {"prompt": ["x" * 8, "x" * 12], "n": 2}
    request = parse_request(body, COMPLETION, RequestLimits(), EngineOptions())
    assert estimate_request(request, [], 0) == RequestEstimate(
        2 + 3 + 1, DEFAULT_ANSWER_TOKENS, 0, 4, 0, "prompt"
    )
    assert text_tokens([{"role": "user", "content": "x" * 9}]) == 1 + 3
    assert text_tokens([5, 6, 7]) == 3


async def test_a_clients_priority_reaches_nobody():
    """vLLM reads it from a header, also a number that its engine cannot hold."""
    seen = []

    async def app(scope, receive, send):
        seen.extend(scope["headers"])

    headers = [(b"host", b"a"), (b"X-VLLM-Priority", b"5"), (b"x-vllm-priority", b"5")]
    scope = {"type": "http", "method": "POST", "path": "/v1/responses", "headers": headers}
    middleware = AdmissionMiddleware(app, Lifecycle(1.0), Admission(capacity()), most_headers=9)
    await middleware(scope, None, None)
    assert seen == headers[:1]
