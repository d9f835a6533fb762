"""Which requests are worked on, which wait, and which are told to come again.

Every request has a ticket from its arrival to the last byte of its answer. Once its price is known
it is admitted if there is room, or waits in one of three lanes: text, small requests (a picture or
two) and large ones. Large ones together leave an eighth of everything to the others, so that these
never wait for a long clip. While a large one waits, small ones keep to that eighth, and text to
what lets the first large one in beside it once those before it have ended, so that none starves.
Text waits for no sequence that media hold, which they do from their decoding on: the engine takes
text first. Within a lane the order is by arrival plus price: a cheap request overtakes a dear one
that came shortly before, and none that is old.

For one event loop.
"""

import asyncio
import math
import time
from bisect import insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from saccade.server.admission.pricing import Capacity, Cost, Kind, Price, Verdict
from saccade.server.core.errors import ApiError
from saccade.server.core.metrics import (
    ADMISSION_WAIT,
    ADMITTED,
    IN_FLIGHT_TOKENS,
    QUEUED_REQUESTS,
    REFUSED,
)

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
        self._held = dict.fromkeys(Kind, Cost())
        self._lanes: dict[Kind, list[_Waiting]] = {kind: [] for kind in Kind}
        self._fetching = {True: 0, False: 0}  # by: is it taken for large; the price is not known
        self._room_bytes = 0  # of requests that are not admitted yet
        self._done: deque[tuple[float, int]] = deque()  # when so many tokens were given back
        self._began = clock()

    @property
    def in_flight(self) -> Cost:
        """What admitted requests hold together."""
        return sum(self._held.values(), Cost())

    @property
    def queued(self) -> int:
        """Requests that fetch their media or wait for their turn."""
        return sum(self._fetching.values()) + sum(map(len, self._lanes.values()))

    def verdict(self, price: Price) -> Verdict:
        """Whether a request of this price would be admitted if it came now. Changes nothing."""
        if refusal := self.capacity.refusal(price):
            return Verdict("never", refusal)
        at_once = self._is_next(self.capacity.kind(price), self.capacity.cost(price))
        return Verdict("now" if at_once else "later")

    def arrive(self, body_bytes: int) -> "Ticket":
        """A ticket for a request of which only the size is known.

        Raises:
            Overloaded: too many requests wait already.
        """
        self._refuse_when_full(body_bytes > LARGE_BODY)
        self._refuse_bytes(body_bytes)
        return Ticket(self, body_bytes)

    def _refuse_bytes(self, more: int) -> None:
        # A request that is alone may have a larger body, which has a limit of its own.
        if self._room_bytes and self._room_bytes + more > self.capacity.queued_bytes:
            raise self._overloaded("queue_full", "the requests that wait take too much memory")

    def _refuse_when_full(self, large: bool) -> None:
        places = self._fetching[True] + len(self._lanes[Kind.LARGE])
        large_full = large and places >= self.capacity.large_queued
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
        share = cost.tokens / self.capacity.total.tokens
        return self._clock() + share * self.capacity.queue_seconds / 2

    def _fits(self, kind: Kind, cost: Cost) -> bool:
        capacity, held, large = self.capacity, self._held, self._lanes[Kind.LARGE]
        beside = self.in_flight
        if kind is Kind.TEXT:
            beside -= Cost(sequences=beside.sequences - held[kind].sequences)
        room = capacity.total if kind is Kind.TEXT else capacity.media
        if not (beside + cost).within(room):
            return False
        if kind is Kind.LARGE:
            # Of sequences, text takes from theirs, so that some are left to small ones.
            text = Cost(sequences=held[Kind.TEXT].sequences)
            return (held[kind] + text + cost).within(capacity.large)
        if kind is Kind.SMALL and large and not (held[kind] + cost).within(capacity.reserve):
            return False
        if kind is Kind.TEXT and (large or self._lanes[Kind.SMALL]):
            sequences = (held[kind] + cost).sequences
            if sequences > capacity.half_the_sequences:
                return False
        return not large or self._leaves_room(cost, large[0].cost)

    def _leaves_room(self, cost: Cost, large: Cost) -> bool:
        """Whether the large request that is next fits beside what is not large, ``cost`` added.

        Small ones that hold more than the eighth were before it, and will have ended.
        """
        small = self._held[Kind.SMALL].at_most(self.capacity.reserve)
        others = self._held[Kind.TEXT] + small + cost
        if others.within(self.capacity.reserve):
            return True
        total = self.capacity.total
        beside = Cost(total.tokens, self.capacity.large.sequences, total.media_bytes)
        return (others + large).within(beside)

    def _is_next(self, kind: Kind, cost: Cost) -> bool:
        lane = self._lanes[kind]
        return (not lane or self._key(cost) < lane[0].key) and self._fits(kind, cost)

    def _take(self, kind: Kind, cost: Cost) -> None:
        self._held[kind] += cost
        ADMITTED.inc()
        IN_FLIGHT_TOKENS.inc(cost.tokens)

    def _give_back(self, kind: Kind, cost: Cost) -> None:
        self._held[kind] -= cost
        IN_FLIGHT_TOKENS.dec(cost.tokens)
        now = self._clock()
        self._forget(now)
        self._done.append((now, cost.tokens))

    def _admit_waiting(self) -> None:
        # Large ones before small ones: once one has gone, small ones may have more.
        for kind in (Kind.TEXT, Kind.LARGE, Kind.SMALL):
            lane = self._lanes[kind]
            while lane and (lane[0].turn.cancelled() or self._fits(kind, lane[0].cost)):
                entry = lane[0]
                if entry.turn.cancelled():  # given up, but it has not run since
                    entry.ticket._stop_waiting()
                    continue
                del lane[0]
                self._take(kind, entry.cost)
                entry.ticket._admitted(kind, entry.cost)
                entry.turn.set_result(None)


class Ticket:
    """One request's place. Whoever took it releases it, once its answer has gone out.

    A ticket is read-in (only its bytes count), then perhaps fetching, then perhaps waiting, then
    admitted; `release` ends it in any state, and again does nothing.
    """

    def __init__(self, admission: Admission, body_bytes: int) -> None:
        self._admission = admission
        self._bytes = body_bytes
        self._fetching: bool | None = None  # is it taken for large
        self._waiting: tuple[Kind, _Waiting] | None = None
        self._held: tuple[Kind, Cost] | None = None
        self._ended = False
        self.kind = Kind.TEXT  # known once it is admitted
        admission._room_bytes += body_bytes

    def fetch(self, remote: bool) -> None:
        """The request has media, which are now fetched; from other hosts if ``remote``.

        Raises:
            Overloaded: too many requests wait already.
        """
        large = remote or self._bytes > LARGE_BODY
        self._admission._refuse_when_full(large)
        self._fetching = large
        self._admission._fetching[large] += 1
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
        cost, kind = admission.capacity.cost(price), admission.capacity.kind(price)
        if admission._is_next(kind, cost):
            admission._take(kind, cost)
            self._admitted(kind, cost)
            ADMISSION_WAIT.observe(0)
            return
        admission._refuse_when_full(kind is Kind.LARGE)
        await self._wait(kind, cost)

    async def _wait(self, kind: Kind, cost: Cost) -> None:
        admission = self._admission
        asked = admission._clock()
        turn = asyncio.get_running_loop().create_future()
        entry = _Waiting(admission._key(cost), self, cost, turn)
        insort(admission._lanes[kind], entry, key=lambda waiting: waiting.key)
        self._waiting = (kind, entry)
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
            kind, entry = self._waiting
            if self._held is None:
                self._admission._lanes[kind].remove(entry)
            self._waiting = None
            QUEUED_REQUESTS.dec()

    def _admitted(self, kind: Kind, cost: Cost) -> None:
        self._held = (kind, cost)
        self.kind = kind
        self._stop_waiting()
        self._admission._room_bytes -= self._bytes
