"""Which requests are worked on, which wait, and which are told to come again.

Every request has a ticket from its arrival to the last byte of its answer. Once its price is known
it is admitted if there is room, or waits in one of two lanes: small requests (text, a picture or
two) and large ones. Large ones together leave an eighth of everything to small ones, so that these
never wait for a long clip; while a large one waits, small ones keep to that eighth, so that what
large ones give back is theirs and they never starve. Within a lane the order is by arrival plus
price: a cheap request overtakes a dear one that came shortly before, and none that is old.

For one event loop.
"""

import asyncio
import math
import time
from bisect import insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from saccade.server.errors import ApiError
from saccade.server.metrics import (
    ADMISSION_WAIT,
    ADMITTED,
    IN_FLIGHT_TOKENS,
    QUEUED_REQUESTS,
    REFUSED,
)
from saccade.server.pricing import Capacity, Cost, Price, Verdict

LARGE_BODY = 65_536
"""Bytes of a body that is taken for a large request until its price is known."""

_RATE_SECONDS = 30.0  # over which the rate of work is measured
_LONGEST_RETRY = 60  # seconds; OpenAI's clients wait no longer than a minute


class Overloaded(ApiError):
    """Too much is under way. ``retry_after`` is in seconds."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(f"{message}; retry in {retry_after} s")
        self.headers = {"Retry-After": str(retry_after)}


@dataclass(eq=False)
class _Waiting:
    """A ticket in its lane."""

    key: float  # seconds; the least comes first
    ticket: "Ticket"
    cost: Cost
    turn: asyncio.Future[None]


class Admission:
    """The requests of one server process.

    Args:
        capacity: what may be held, and how long others may wait.
        clock: seconds; for tests.
    """

    def __init__(self, capacity: Capacity, clock: Callable[[], float] = time.monotonic) -> None:
        self.capacity = capacity
        self._clock = clock
        self._held = {True: Cost(), False: Cost()}  # by: is it small
        self._lanes: dict[bool, list[_Waiting]] = {True: [], False: []}
        self._fetching = {True: 0, False: 0}  # requests whose price is not known yet
        self._room_bytes = 0  # of requests that are not admitted yet
        self._done: deque[tuple[float, int]] = deque()  # when so many tokens were given back
        self._began = clock()

    @property
    def in_flight(self) -> Cost:
        """What admitted requests hold together."""
        return self._held[True] + self._held[False]

    @property
    def queued(self) -> int:
        """Requests that fetch their media or wait for their turn."""
        return sum(self._places(small) for small in (True, False))

    def verdict(self, price: Price) -> Verdict:
        """Whether a request of this price would be admitted if it came now. Changes nothing."""
        if refusal := self.capacity.refusal(price):
            return Verdict("never", refusal)
        small = self.capacity.is_small(price)
        return Verdict("now" if self._is_next(small, self.capacity.cost(price)) else "later")

    def arrive(self, body_bytes: int) -> "Ticket":
        """A ticket for a request of which only the size is known.

        Raises:
            Overloaded: too many requests wait already.
        """
        self._refuse_when_full(body_bytes <= LARGE_BODY)
        self._refuse_bytes(body_bytes)
        return Ticket(self, body_bytes)

    def _refuse_bytes(self, more: int) -> None:
        # A request that is alone may have a larger body, which has a limit of its own.
        if self._room_bytes and self._room_bytes + more > self.capacity.queued_bytes:
            raise self._overloaded("queue_full", "the requests that wait take too much memory")

    def _places(self, small: bool) -> int:
        return self._fetching[small] + len(self._lanes[small])

    def _refuse_when_full(self, small: bool) -> None:
        large_full = not small and self._places(False) >= self.capacity.large_queued
        if large_full or self.queued >= self.capacity.queued_requests:
            raise self._overloaded("queue_full", "too many requests are waiting")

    def _overloaded(self, reason: str, message: str) -> Overloaded:
        REFUSED.labels(reason).inc()
        return Overloaded(message, self.retry_after())

    def retry_after(self) -> int:
        """Seconds until what waits now will have been admitted, at the present rate of work."""
        now = self._clock()
        self._forget(now)
        done = sum(tokens for _, tokens in self._done)
        if not done:
            return min(_LONGEST_RETRY, math.ceil(self.capacity.queue_seconds))
        rate = done / min(_RATE_SECONDS, max(1.0, now - self._began))
        waiting = sum(entry.cost.tokens for lane in self._lanes.values() for entry in lane)
        return max(1, min(_LONGEST_RETRY, math.ceil(waiting / rate)))

    def _forget(self, now: float) -> None:
        while self._done and self._done[0][0] < now - _RATE_SECONDS:
            self._done.popleft()

    def _key(self, cost: Cost) -> float:
        # A request as large as there can be lets pass what comes within half the longest wait.
        # Media cost the processor more than their tokens say: text goes before any of them.
        share = cost.tokens / self.capacity.total.tokens
        if cost.media_bytes:
            share = (1 + share) / 2
        return self._clock() + share * self.capacity.queue_seconds / 2

    def _fits(self, small: bool, cost: Cost) -> bool:
        if not (self.in_flight + cost).within(self.capacity.total):
            return False
        if not small:
            return (self._held[False] + cost).within(self.capacity.large)
        return not self._lanes[False] or (self._held[True] + cost).within(self.capacity.reserve)

    def _is_next(self, small: bool, cost: Cost) -> bool:
        lane = self._lanes[small]
        return (not lane or self._key(cost) < lane[0].key) and self._fits(small, cost)

    def _take(self, small: bool, cost: Cost) -> None:
        self._held[small] += cost
        ADMITTED.inc()
        IN_FLIGHT_TOKENS.inc(cost.tokens)

    def _give_back(self, small: bool, cost: Cost) -> None:
        self._held[small] -= cost
        IN_FLIGHT_TOKENS.dec(cost.tokens)
        now = self._clock()
        self._forget(now)
        self._done.append((now, cost.tokens))

    def _admit_waiting(self) -> None:
        # Large ones first: once one has gone, small ones may have more.
        for small in (False, True):
            lane = self._lanes[small]
            while lane and (lane[0].turn.cancelled() or self._fits(small, lane[0].cost)):
                entry = lane[0]
                if entry.turn.cancelled():  # given up, but it has not run since
                    entry.ticket._stop_waiting()
                    continue
                del lane[0]
                self._take(small, entry.cost)
                entry.ticket._admitted(small, entry.cost)
                entry.turn.set_result(None)


class Ticket:
    """One request's place. Whoever took it releases it, once its answer has gone out.

    A ticket is read-in (only its bytes count), then perhaps fetching, then perhaps waiting, then
    admitted; `release` ends it in any state, and again does nothing.
    """

    def __init__(self, admission: Admission, body_bytes: int) -> None:
        self._admission = admission
        self._bytes = body_bytes
        self._fetching: bool | None = None  # is it taken for small
        self._waiting: tuple[bool, _Waiting] | None = None
        self._held: tuple[bool, Cost] | None = None
        self._ended = False
        self.small = True  # known once it is admitted
        admission._room_bytes += body_bytes

    def fetch(self, remote: bool) -> None:
        """The request has media, which are now fetched; from other hosts if ``remote``.

        Raises:
            Overloaded: too many requests wait already.
        """
        small = not remote and self._bytes <= LARGE_BODY
        self._admission._refuse_when_full(small)
        self._fetching = small
        self._admission._fetching[small] += 1
        QUEUED_REQUESTS.inc()

    def receive(self, count: int) -> None:
        """So many bytes of its media have come in.

        Raises:
            ApiError: they are more than all that wait may have.
            Overloaded: too many with those of the others.
        """
        admission, most = self._admission, self._admission.capacity.queued_bytes
        if self._bytes + count > most:
            REFUSED.labels("request_too_large").inc()
            message = f"the request and its media take more than {most} bytes"
            raise ApiError(message, None, "request_too_large", 413)
        admission._refuse_bytes(count)
        self._bytes += count
        admission._room_bytes += count

    async def admit(self, price: Price) -> None:
        """Returns once the request may go on.

        Raises:
            ApiError: it can never be served.
            Overloaded: too many requests wait already, or this one has waited too long.
        """
        admission = self._admission
        self._stop_fetching()
        if refusal := admission.capacity.refusal(price):
            REFUSED.labels(refusal.code).inc()
            raise refusal
        cost, small = admission.capacity.cost(price), admission.capacity.is_small(price)
        if admission._is_next(small, cost):
            admission._take(small, cost)
            self._admitted(small, cost)
            ADMISSION_WAIT.observe(0)
            return
        admission._refuse_when_full(small)
        await self._wait(small, cost)

    async def _wait(self, small: bool, cost: Cost) -> None:
        admission = self._admission
        asked = admission._clock()
        turn = asyncio.get_running_loop().create_future()
        entry = _Waiting(admission._key(cost), self, cost, turn)
        insort(admission._lanes[small], entry, key=lambda waiting: waiting.key)
        self._waiting = (small, entry)
        QUEUED_REQUESTS.inc()
        try:
            async with asyncio.timeout(admission.capacity.queue_seconds):
                await turn
        except TimeoutError:
            if self._held is None:
                error = admission._overloaded("queue_timeout", "the request has waited too long")
                self.release()
                raise error from None
            # Admitted in the very moment that its time was over.
        except asyncio.CancelledError:
            self.release()
            raise
        ADMISSION_WAIT.observe(admission._clock() - asked)

    def release(self) -> None:
        """The request has ended, however it did."""
        if self._ended:
            return
        self._ended = True
        self._stop_fetching()
        self._stop_waiting()
        if self._held is not None:
            self._admission._give_back(*self._held)
        else:
            self._admission._room_bytes -= self._bytes
        self._admission._admit_waiting()

    def _stop_fetching(self) -> None:
        if self._fetching is not None:
            self._admission._fetching[self._fetching] -= 1
            self._fetching = None
            QUEUED_REQUESTS.dec()

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            small, entry = self._waiting
            if self._held is None:
                self._admission._lanes[small].remove(entry)
            self._waiting = None
            QUEUED_REQUESTS.dec()

    def _admitted(self, small: bool, cost: Cost) -> None:
        self._held = (small, cost)
        self.small = small
        self._stop_waiting()
        self._admission._room_bytes -= self._bytes
