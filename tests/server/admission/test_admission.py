"""Admission without a server: nothing is held twice or lost, and what is held is bounded."""

import asyncio
import random

import pytest
from admission_cases import LARGE, NOTHING, SMALL, admitted, capacity, settle, waiting
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.server.admission.controller import Admission, Overloaded
from saccade.server.admission.pricing import Cost, Kind, Price, price_request, text_tokens
from saccade.server.core.errors import ApiError
from saccade.server.middleware.admission import AdmissionMiddleware

prices = st.builds(
    Price,
    prompt=st.integers(0, 7000),
    answer=st.integers(1, 3000),
    answers=st.integers(1, 20),
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
            assert charged.within(admission.in_flight)
            text = admission._held[Kind.TEXT]
            media = admission.in_flight - text
            for part in (text, media, admission.in_flight - Cost(sequences=media.sequences)):
                assert part.within(admission.capacity.total)
            assert admission._held[Kind.LARGE].within(admission.capacity.large)

        async def one(price: Price) -> None:
            ticket = admission.arrive(choose.randrange(200))
            try:
                if choose.random() < 0.5:
                    ticket.fetch(choose.random() < 0.5)
                    await asyncio.sleep(choose.choice([0, 0.01]))
                await ticket.admit(price)
                held[asyncio.current_task()] = admission.capacity.cost(price)
                check()
                await asyncio.sleep(choose.choice([0, 0.01, 0.03]))
            finally:
                held.pop(asyncio.current_task(), None)
                ticket.release()
                ticket.release()  # changes nothing
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
        assert admission._room_bytes == 0

    asyncio.run(run())


def test_full_queue_refuses_but_keeps_places_for_small_ones():
    async def run() -> None:
        admission = Admission(capacity())
        tickets = [admission.arrive(10) for _ in range(15)]
        for ticket in tickets[:14]:
            ticket.fetch(remote=True)
        with pytest.raises(Overloaded):
            tickets[14].fetch(remote=True)
        with pytest.raises(Overloaded):
            admission.arrive(1_000_000)
        for _ in range(2):
            admission.arrive(10).fetch(remote=False)
        with pytest.raises(Overloaded):
            admission.arrive(10)

    asyncio.run(run())


def test_bytes_of_waiting_requests_are_bounded():
    admission = Admission(capacity())
    large = admission.arrive(1_000_000)  # alone
    with pytest.raises(Overloaded, match="memory"):
        admission.arrive(1)
    large.release()
    admission.arrive(1)


def test_media_of_waiting_requests_are_bounded_while_they_come_in():
    admission = Admission(capacity())
    first, second = admission.arrive(0), admission.arrive(0)
    first.receive(6_000)
    second.receive(4_000)
    with pytest.raises(Overloaded, match="memory"):
        first.receive(1)
    second.release()
    first.receive(4_000)
    with pytest.raises(ApiError, match="more than 10000 bytes") as refused:
        first.receive(1)
    assert refused.value.status == 413
    first.release()
    admission.arrive(10_000)


def test_deadline_of_the_queue():
    async def run() -> None:
        admission = Admission(capacity(queue_seconds=0.01))
        holder = [await admitted(admission, LARGE) for _ in range(2)]
        with pytest.raises(Overloaded, match="too long"):
            await admitted(admission, LARGE)
        assert admission.queued == 0
        for ticket in holder:
            ticket.release()
        assert admission.in_flight == NOTHING

    asyncio.run(run())


def test_retry_after_is_the_time_the_queue_takes():
    async def run() -> None:
        now = 0.0
        admission = Admission(capacity(queue_seconds=20.0), lambda: now)
        holders = [await admitted(admission, LARGE) for _ in range(2)]
        assert admission.retry_after() == 20, "nothing is known yet: the longest wait"
        now = 10.0
        holders.pop().release()  # 3100 tokens in 10 s
        holders.append(await admitted(admission, LARGE))
        waiters = [waiting(admission, LARGE) for _ in range(2)]
        await settle()
        assert admission.retry_after() == 20  # 6200 tokens at 310 a second
        for waiter in waiters:
            waiter.cancel()
        await settle()
        assert admission.retry_after() == 1

    asyncio.run(run())


def test_verdict_changes_nothing_and_tells_the_truth():
    async def run() -> None:
        admission = Admission(capacity())
        assert admission.verdict(LARGE).admitted == "now"
        for _ in range(2):
            await admitted(admission, LARGE)
        assert admission.verdict(LARGE).admitted == "later"
        assert admission.verdict(SMALL).admitted == "now"
        tight = Admission(capacity(total=Cost(800, 16, 80_000)))
        never = tight.verdict(Price(prompt=760, answer=1, visual=751))
        assert never.admitted == "never"
        assert never.refusal.status == 413
        assert "751 tokens" in never.refusal.message
        assert "700 tokens" in never.refusal.message
        over = admission.verdict(Price(prompt=6010, answer=1, visual=6000))
        assert over.refusal.status == 400
        assert over.refusal.code == "context_length_exceeded"
        assert admission.in_flight == Cost(6200, 2, 2000)

    asyncio.run(run())


def test_price():
    media = [("messages[0].content[0]", 64), ("messages[0].content[1]", 900)]
    body = {"n": 3, "max_tokens": 50, "max_completion_tokens": None}
    price = price_request(body, 36, media, 5)
    assert price == Price(1000, 50, 964, 3, 5, "messages[0].content[1]")
    assert price_request({"max_tokens": "many", "n": True}, 7).answers == 1
    assert price_request({}, 7, param="prompt", prompts=4).answers == 4
    assert text_tokens([{"role": "user", "content": "x" * 9}]) == 1 + 3
    assert text_tokens([5, 6, 7]) == 3


async def test_a_clients_priority_reaches_nobody():
    """vLLM reads it from a header, also a number that its engine cannot hold."""
    seen = []

    async def app(scope, receive, send):
        seen.extend(scope["headers"])

    headers = [(b"host", b"a"), (b"X-VLLM-Priority", b"5"), (b"x-vllm-priority", b"5")]
    scope = {"type": "http", "method": "POST", "path": "/v1/responses", "headers": headers}
    await AdmissionMiddleware(app, Admission(capacity()))(scope, None, None)
    assert seen == headers[:1]
