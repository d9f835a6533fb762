"""Admission without a server: nothing is held twice, lost, or kept waiting for ever."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.server.admission import Admission, Overloaded
from saccade.server.errors import ApiError
from saccade.server.pricing import Capacity, Cost, Kind, Price, price_request, text_tokens

SMALL = Price(prompt=20, answer=30)
LARGE = Price(prompt=3000, answer=100, visual=2900, media_bytes=1000)
NOTHING = Cost()


def capacity(**changes) -> Capacity:
    values = {
        "total": Cost(8000, 16, 80_000),
        "context": 6000,
        "queued_requests": 16,
        "queued_bytes": 10_000,
        "queue_seconds": 5.0,
    }
    return Capacity(**{**values, **changes})


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def admitted(admission: Admission, price: Price):
    ticket = admission.arrive(10)
    await ticket.admit(price)
    return ticket


def waiting(admission: Admission, price: Price):
    return asyncio.ensure_future(admitted(admission, price))


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


def test_small_requests_pass_waiting_large_ones():
    async def run() -> None:
        admission = Admission(capacity())
        first, second = [await admitted(admission, LARGE) for _ in range(2)]
        third = waiting(admission, LARGE)
        await settle()
        assert not third.done()
        small = await admitted(admission, SMALL)
        assert not third.done()
        for ticket in (first, small):
            ticket.release()
        (await third).release()
        second.release()
        assert admission.in_flight == NOTHING

    asyncio.run(run())


def test_large_requests_do_not_starve():
    """Small requests come without end and hold all there is; a large one still gets in."""

    async def run() -> None:
        admission = Admission(capacity(total=Cost(8000, 1000, 80_000), queued_requests=1000))
        small = Price(prompt=300, answer=200)
        tickets = [await admitted(admission, small) for _ in range(16)]  # all 8000 tokens
        large = waiting(admission, LARGE)
        await settle()
        queue = []
        for _ in range(40):
            queue.append(waiting(admission, small))
            await settle()
            tickets.pop(0).release()
            await settle()
            tickets += [task.result() for task in queue if task.done()]
            queue = [task for task in queue if not task.done()]
            if large.done():
                break
        assert large.done()
        for task in queue:
            task.cancel()

    asyncio.run(run())


def test_cheap_overtakes_dear_but_not_old():
    async def run() -> None:
        now = 0.0
        admission = Admission(capacity(), lambda: now)
        dear, cheap = Price(7000, 1, 1), Price(2000, 1, 1)
        holder = await admitted(admission, dear)
        order = []

        async def ask(name: str, price: Price) -> None:
            ticket = await admitted(admission, price)
            order.append(name)
            ticket.release()

        tasks = []
        for at, name, price in (
            (0.0, "dear", dear),
            (1.0, "cheap", cheap),
            # Half the longest wait later nothing passes any more.
            (2.5, "late", cheap),
        ):
            now = at
            tasks.append(asyncio.ensure_future(ask(name, price)))
            await settle()
        holder.release()
        await asyncio.gather(*tasks)
        assert order == ["cheap", "dear", "late"]

    asyncio.run(run())


def test_what_fits_beside_a_dear_one_that_waits_goes_at_once():
    async def run() -> None:
        now = 0.0
        admission = Admission(capacity(), lambda: now)
        holder = await admitted(admission, Price(3000, 1, 1))
        dear = waiting(admission, Price(5000, 1, 1))
        await settle()
        middle = Price(2000, 1, 1)
        (await admitted(admission, middle)).release()
        now = 2.5  # by now the dear one is old: nothing passes it any more
        late = waiting(admission, middle)
        await settle()
        assert not late.done()
        holder.release()
        (await dear).release()
        (await late).release()
        assert admission.in_flight == NOTHING

    asyncio.run(run())


PICTURE = Price(prompt=60, answer=10, visual=40, media_bytes=100)
CLIP = Price(prompt=1500, answer=10, visual=1400, media_bytes=500)


def test_media_leave_a_sequence_to_the_next_text():
    async def run() -> None:
        admission = Admission(capacity())  # 16 sequences
        tickets = [await admitted(admission, PICTURE) for _ in range(15)]
        late = waiting(admission, PICTURE)
        await settle()
        assert not late.done()
        tickets.append(await admitted(admission, SMALL))
        assert tickets[-1].kind is Kind.TEXT
        tickets.pop(0).release()
        await settle()
        assert not late.done(), "the sequence is the next text's"
        tickets.pop().release()
        (await late).release()
        for ticket in tickets:
            ticket.release()
        assert admission.in_flight == NOTHING

    asyncio.run(run())


@pytest.mark.parametrize("other", [PICTURE, CLIP])
def test_text_waits_for_no_sequence_of_media(other):
    async def run() -> None:
        admission = Admission(capacity())  # 16 sequences
        pictures = [await admitted(admission, PICTURE) for _ in range(15)]
        late = waiting(admission, other)
        await settle()
        assert not late.done()
        texts = [await admitted(admission, SMALL) for _ in range(8)]
        more = waiting(admission, SMALL)
        await settle()
        assert not more.done(), "half of the sequences are all that text gets while others wait"
        texts.pop().release()
        texts.append(await more)
        assert not late.done()
        for ticket in texts + pictures:
            ticket.release()
        (await late).release()
        assert admission.in_flight == NOTHING

    asyncio.run(run())


def test_of_all_kinds_some_go_on_when_all_come_without_end():
    """More of each than there is room for: text is first, but none waits for ever."""

    async def run() -> None:
        admission = Admission(capacity(total=Cost(80_000, 16, 80_000), queued_requests=1000))
        kinds = {Kind.LARGE: CLIP, Kind.SMALL: PICTURE, Kind.TEXT: SMALL}
        tasks = {
            kind: [waiting(admission, price) for _ in range(20)] for kind, price in kinds.items()
        }
        ended = dict.fromkeys(Kind, 0)
        running: list = []
        for _ in range(400):
            await settle()
            for kind, price in kinds.items():
                running += [task.result() for task in tasks[kind] if task.done()]
                tasks[kind] = [task for task in tasks[kind] if not task.done()]
                tasks[kind] += [waiting(admission, price) for _ in range(20 - len(tasks[kind]))]
            held = {kind: sum(ticket.kind is kind for ticket in running) for kind in Kind}
            assert held[Kind.TEXT] <= 8
            oldest = running.pop(0)
            ended[oldest.kind] += 1
            oldest.release()
        assert ended[Kind.TEXT] >= 150
        assert ended[Kind.LARGE] >= 100
        assert ended[Kind.SMALL] >= 20
        for kind in Kind:
            for task in tasks[kind]:
                task.cancel()

    asyncio.run(run())


def test_a_request_for_everything_is_let_in_between_texts():
    """It waits for those before it only, though text comes without end."""

    async def run() -> None:
        admission = Admission(capacity(queued_requests=1000))
        everything = Price(prompt=7000, answer=100, answers=16, visual=5000, media_bytes=70_000)
        texts = [await admitted(admission, SMALL) for _ in range(16)]
        large = waiting(admission, everything)
        more = [waiting(admission, SMALL) for _ in range(30)]
        for _ in range(40):
            await settle()
            texts += [task.result() for task in more if task.done()]
            more = [task for task in more if not task.done()]
            if large.done():
                break
            texts.pop(0).release()
        assert large.done()
        assert len(more) >= 15
        for task in more:
            task.cancel()

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
