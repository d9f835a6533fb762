"""Who goes first, who waits, and that nobody waits for ever."""

import asyncio

import pytest
from admission_cases import LARGE, NOTHING, SMALL, admitted, capacity, settle, waiting

from saccade.server.admission.controller import Admission
from saccade.server.admission.pricing import RequestClass, RequestEstimate, Resources

PICTURE = RequestEstimate(prompt=60, answer=10, visual=40, media_bytes=100)
CLIP = RequestEstimate(prompt=1500, answer=10, visual=1400, media_bytes=500)


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
            admission.release(ticket)
        admission.release(await third)
        admission.release(second)
        assert admission.in_flight == NOTHING

    asyncio.run(run())


def test_large_requests_do_not_starve():
    """Small requests come without end and hold all there is; a large one still gets in."""

    async def run() -> None:
        admission = Admission(capacity(total=Resources(8000, 1000, 80_000), queued_requests=1000))
        small = RequestEstimate(prompt=300, answer=200)
        tickets = [await admitted(admission, small) for _ in range(16)]  # all 8000 tokens
        large = waiting(admission, LARGE)
        await settle()
        queue = []
        for _ in range(40):
            queue.append(waiting(admission, small))
            await settle()
            admission.release(tickets.pop(0))
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
        dear, cheap = RequestEstimate(7000, 1, 1), RequestEstimate(2000, 1, 1)
        holder = await admitted(admission, dear)
        order = []

        async def ask(name: str, price: RequestEstimate) -> None:
            ticket = await admitted(admission, price)
            order.append(name)
            admission.release(ticket)

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
        admission.release(holder)
        await asyncio.gather(*tasks)
        assert order == ["cheap", "dear", "late"]

    asyncio.run(run())


def test_what_fits_beside_a_dear_one_that_waits_goes_at_once():
    async def run() -> None:
        now = 0.0
        admission = Admission(capacity(), lambda: now)
        holder = await admitted(admission, RequestEstimate(3000, 1, 1))
        dear = waiting(admission, RequestEstimate(5000, 1, 1))
        await settle()
        middle = RequestEstimate(2000, 1, 1)
        admission.release(await admitted(admission, middle))
        now = 2.5  # by now the dear one is old: nothing passes it any more
        late = waiting(admission, middle)
        await settle()
        assert not late.done()
        admission.release(holder)
        admission.release(await dear)
        admission.release(await late)
        assert admission.in_flight == NOTHING

    asyncio.run(run())


def test_media_leave_a_sequence_to_the_next_text():
    async def run() -> None:
        admission = Admission(capacity())  # 16 sequences
        tickets = [await admitted(admission, PICTURE) for _ in range(15)]
        late = waiting(admission, PICTURE)
        await settle()
        assert not late.done()
        tickets.append(await admitted(admission, SMALL))
        assert tickets[-1].request_class is RequestClass.TEXT
        admission.release(tickets.pop(0))
        await settle()
        assert not late.done(), "the sequence is the next text's"
        admission.release(tickets.pop())
        admission.release(await late)
        for ticket in tickets:
            admission.release(ticket)
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
        admission.release(texts.pop())
        texts.append(await more)
        assert not late.done()
        for ticket in texts + pictures:
            admission.release(ticket)
        admission.release(await late)
        assert admission.in_flight == NOTHING

    asyncio.run(run())


def test_of_all_kinds_some_go_on_when_all_come_without_end():
    """More of each than there is room for: text is first, but none waits for ever."""

    async def run() -> None:
        admission = Admission(capacity(total=Resources(80_000, 16, 80_000), queued_requests=1000))
        kinds = {RequestClass.LARGE: CLIP, RequestClass.SMALL: PICTURE, RequestClass.TEXT: SMALL}
        tasks = {
            kind: [waiting(admission, price) for _ in range(20)] for kind, price in kinds.items()
        }
        ended = dict.fromkeys(RequestClass, 0)
        running: list = []
        for _ in range(400):
            await settle()
            for kind, price in kinds.items():
                running += [task.result() for task in tasks[kind] if task.done()]
                tasks[kind] = [task for task in tasks[kind] if not task.done()]
                tasks[kind] += [waiting(admission, price) for _ in range(20 - len(tasks[kind]))]
            held = {
                kind: sum(ticket.request_class is kind for ticket in running)
                for kind in RequestClass
            }
            assert held[RequestClass.TEXT] <= 8
            oldest = running.pop(0)
            ended[oldest.request_class] += 1
            admission.release(oldest)
        assert ended[RequestClass.TEXT] >= 150
        assert ended[RequestClass.LARGE] >= 100
        assert ended[RequestClass.SMALL] >= 20
        for kind in RequestClass:
            for task in tasks[kind]:
                task.cancel()

    asyncio.run(run())


def test_a_request_for_everything_is_let_in_between_texts():
    """It waits for those before it only, though text comes without end."""

    async def run() -> None:
        admission = Admission(capacity(queued_requests=1000))
        everything = RequestEstimate(
            prompt=7000, answer=100, completions=16, visual=5000, media_bytes=70_000
        )
        texts = [await admitted(admission, SMALL) for _ in range(16)]
        large = waiting(admission, everything)
        more = [waiting(admission, SMALL) for _ in range(30)]
        for _ in range(40):
            await settle()
            texts += [task.result() for task in more if task.done()]
            more = [task for task in more if not task.done()]
            if large.done():
                break
            admission.release(texts.pop(0))
        assert large.done()
        assert len(more) >= 15
        for task in more:
            task.cancel()

    asyncio.run(run())
