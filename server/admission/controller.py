"""Admission control: admits, queues or rejects (429) requests against token, sequence and memory
budgets.

Every request has a ticket from its arrival to the last byte of its answer. Once its estimate is
known it is admitted if it fits, or waits in the queue of its class. The table in `_fits` says what
fits: large requests leave an eighth of everything to the others, and while a large one waits, the
others leave room for it, so that no class starves. Text waits for no sequence that media hold,
which they do from their decoding on: the engine takes text first. Within a queue the order is by
arrival plus size: a small request overtakes a large one that came shortly before, and none that is
old.

For one event loop.
"""

import asyncio
import heapq
import itertools
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from saccade.server.admission.pricing import (
    AdmissionLimits,
    RequestClass,
    RequestEstimate,
    Resources,
)
from saccade.server.core.errors import ApiError
from saccade.server.core.metrics import (
    ADMISSION_WAIT,
    ADMITTED,
    IN_FLIGHT_TOKENS,
    QUEUED_REQUESTS,
    REFUSED,
)

LARGE_BODY = 65_536
"""Bytes of a body that is taken for a large request until its estimate is known."""

TICKET = "saccade.ticket"
"""Key of a request's ticket in its ASGI scope."""

_RATE_SECONDS = 30.0  # over which the rate of work is measured
_LONGEST_RETRY = 60  # seconds; OpenAI's clients wait no longer than a minute

TEXT, SMALL, LARGE = RequestClass


class Overloaded(ApiError):
    """The server is overloaded. ``retry_after`` is in seconds."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(f"{message}; retry in {retry_after} s")
        self.headers = {"Retry-After": str(retry_after)}


class State(Enum):
    """Where a request stands."""

    ARRIVED = auto()  # only its bytes count
    FETCHING = auto()  # takes a place of the queue, its estimate is not known
    QUEUED = auto()
    ADMITTED = auto()
    ENDED = auto()


_OUTSIDE = (State.ADMITTED, State.ENDED)  # where what it brought counts as waiting no more


@dataclass(eq=False)
class Ticket:
    """The record of one request. Only `Admission` writes to it."""

    waiting_bytes: int  # of its body and its fetched media
    state: State = State.ARRIVED
    fetches_large: bool = False  # taken for large while its media are fetched
    request_class: RequestClass = TEXT  # known once it is admitted or queued
    charged: Resources = field(default_factory=Resources)
    entry: "tuple[float, int, Ticket] | None" = None  # in its queue; the least is the first
    turn: asyncio.Future[None] | None = None  # done when it is admitted from its queue


class Admission:
    """The requests of one server process.

    Args:
        limits: what may be held, and how long others may wait.
        clock: seconds; for tests.
    """

    def __init__(
        self, limits: AdmissionLimits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits
        self._clock = clock
        self._held = dict.fromkeys(RequestClass, Resources())
        self._queues: dict[RequestClass, list[tuple[float, int, Ticket]]] = {
            request_class: [] for request_class in RequestClass
        }
        self._serial = itertools.count()
        self._fetching = {True: 0, False: 0}  # by: is it taken for large
        self._waiting_bytes = 0  # of requests that are not admitted yet
        self._done: deque[tuple[float, int]] = deque()  # when so many tokens were given back
        self._began = clock()

    @property
    def in_flight(self) -> Resources:
        """What admitted requests hold together."""
        return sum(self._held.values(), Resources())

    @property
    def queued(self) -> int:
        """Requests that fetch their media or wait for their turn."""
        return sum(self._fetching.values()) + sum(map(len, self._queues.values()))

    def arrive(self, body_bytes: int) -> Ticket:
        """A ticket for a request of which only the size is known. Whoever takes it releases it.

        Raises:
            Overloaded: too many requests wait already.
        """
        self._reject_when_full(body_bytes > LARGE_BODY, body_bytes)
        self._waiting_bytes += body_bytes
        return Ticket(body_bytes)

    def fetch(self, ticket: Ticket, remote: bool) -> None:
        """The request has media, which are now fetched; from other hosts if ``remote``.

        Raises:
            Overloaded: too many requests wait already.
        """
        ticket.fetches_large = remote or ticket.waiting_bytes > LARGE_BODY
        self._reject_when_full(ticket.fetches_large)
        self._move(ticket, State.FETCHING)

    def receive(self, ticket: Ticket, count: int) -> None:
        """So many bytes of its media have come in.

        Raises:
            ApiError: they are more than all that wait may have.
            Overloaded: too many with those of the others.
        """
        most = self.limits.queued_bytes
        if ticket.waiting_bytes + count > most:
            REFUSED.labels("request_too_large").inc()
            message = f"the request and its media take more than {most} bytes"
            raise ApiError(message, None, "request_too_large", 413)
        self._reject_when_full(None, count)
        ticket.waiting_bytes += count
        self._waiting_bytes += count

    async def admit(self, ticket: Ticket, estimate: RequestEstimate) -> None:
        """Returns once the request may go on.

        Raises:
            ApiError: it can never be served.
            Overloaded: too many requests wait already, or this one has waited too long.
        """
        self._move(ticket, State.ARRIVED)
        if refusal := self.limits.refusal(estimate.visual, estimate.param):
            REFUSED.labels(refusal.code).inc()
            raise refusal
        ticket.request_class, ticket.charged = self.limits.classify(estimate)
        queue = self._queues[ticket.request_class]
        # A request as large as there can be lets pass what comes within half the longest wait.
        share = ticket.charged.tokens / self.limits.total.tokens
        began = self._clock()
        key = began + share * self.limits.queue_seconds / 2
        if (not queue or key < queue[0][0]) and self._fits(ticket.request_class, ticket.charged):
            self._move(ticket, State.ADMITTED)
            ADMISSION_WAIT.observe(0)
            return
        self._reject_when_full(ticket.request_class is LARGE)
        ticket.entry = (key, next(self._serial), ticket)
        ticket.turn = asyncio.get_running_loop().create_future()
        self._move(ticket, State.QUEUED)
        try:
            async with asyncio.timeout(self.limits.queue_seconds):
                await ticket.turn
        except TimeoutError:
            # It may have been admitted in the very moment that its time was over.
            if ticket.state is not State.ADMITTED:
                error = self._overloaded("queue_timeout", "the request has waited too long")
                self.release(ticket)
                raise error from None
        except asyncio.CancelledError:
            self.release(ticket)
            raise
        ADMISSION_WAIT.observe(self._clock() - began)

    def release(self, ticket: Ticket) -> None:
        """The request has ended, however it did. Once more changes nothing."""
        if ticket.state is State.ENDED:
            return
        self._move(ticket, State.ENDED)
        # Large ones before small ones: once one has gone, small ones may have more.
        for request_class in (TEXT, LARGE, SMALL):
            queue = self._queues[request_class]
            while queue:
                _, _, first = queue[0]
                assert first.turn is not None
                if first.turn.cancelled():  # but its task has not run since
                    self._move(first, State.ARRIVED)
                elif self._fits(request_class, first.charged):
                    self._move(first, State.ADMITTED)
                    first.turn.set_result(None)
                else:
                    break

    def retry_after(self) -> int:
        """Seconds until what waits now will have been admitted, at the present rate of work."""
        since = self._clock() - _RATE_SECONDS
        done = sum(tokens for ended, tokens in self._done if ended >= since)
        if not done:
            return min(_LONGEST_RETRY, math.ceil(self.limits.queue_seconds))
        rate = done / min(_RATE_SECONDS, max(1.0, self._clock() - self._began))
        waiting = sum(
            ticket.charged.tokens for queue in self._queues.values() for _, _, ticket in queue
        )
        return max(1, min(_LONGEST_RETRY, math.ceil(waiting / rate)))

    def _fits(self, request_class: RequestClass, needed: Resources) -> bool:
        limits, total = self.limits, self.limits.total
        text, small, large = (self._held[held_by] for held_by in RequestClass)
        small_waits, large_waits = bool(self._queues[SMALL]), bool(self._queues[LARGE])
        text_sequences = Resources(sequences=text.sequences)
        # While `waiting`, requests of `classes` may hold `limit` together with what is `held`.
        table = (
            (True, (TEXT,), Resources(0, -(small + large).sequences) + self.in_flight, total),
            (True, (SMALL, LARGE), self.in_flight, limits.media_limit),
            # Of sequences, text takes from those of large ones, so that some are left to small.
            (True, (LARGE,), large + text_sequences, limits.large_limit),
            (large_waits, (SMALL,), small, limits.small_reserve),
            (
                small_waits or large_waits,
                (TEXT,),
                text_sequences,
                Resources(total.tokens, limits.text_sequence_limit, total.media_bytes),
            ),
            (
                large_waits,
                (TEXT, SMALL),
                # Small ones that hold more than the reserve were before it, and will have ended.
                text + (small & limits.small_reserve),
                limits.beside_large(self._queues[LARGE][0][2].charged) if large_waits else total,
            ),
        )
        return all(
            held + needed <= limit
            for waiting, classes, held, limit in table
            if waiting and request_class in classes
        )

    def _move(self, ticket: Ticket, state: State) -> None:
        """Gives back what the request holds in its old state, and takes what it has in the new."""
        queue = self._queues[ticket.request_class]
        match ticket.state:
            case State.FETCHING:
                self._fetching[ticket.fetches_large] -= 1
            case State.QUEUED:
                assert ticket.entry is not None
                queue.remove(ticket.entry)
                heapq.heapify(queue)
                ticket.entry = None  # which holds the ticket
            case State.ADMITTED:
                now = self._clock()
                self._held[ticket.request_class] -= ticket.charged
                self._done.append((now, ticket.charged.tokens))
                while self._done[0][0] < now - _RATE_SECONDS:
                    self._done.popleft()
        match state:
            case State.FETCHING:
                self._fetching[ticket.fetches_large] += 1
            case State.QUEUED:
                assert ticket.entry is not None
                heapq.heappush(queue, ticket.entry)
            case State.ADMITTED:
                self._held[ticket.request_class] += ticket.charged
                ADMITTED.inc()
        if state in _OUTSIDE and ticket.state not in _OUTSIDE:
            self._waiting_bytes -= ticket.waiting_bytes
        ticket.state = state
        QUEUED_REQUESTS.set(self.queued)
        IN_FLIGHT_TOKENS.set(sum(held.tokens for held in self._held.values()))

    def _reject_when_full(self, large: bool | None, more_bytes: int = 0) -> None:
        """Rejects what finds no place in the queue (None: needs none) or no room for its bytes."""
        large_places = self._fetching[True] + len(self._queues[LARGE])
        if large is not None and (
            self.queued >= self.limits.queued_requests
            or (large and large_places >= self.limits.large_queued)
        ):
            raise self._overloaded("queue_full", "too many requests are waiting")
        # A request that is alone may have a larger body, which has a limit of its own.
        waiting = self._waiting_bytes if more_bytes else 0
        if waiting and waiting + more_bytes > self.limits.queued_bytes:
            raise self._overloaded("queue_full", "the requests that wait take too much memory")

    def _overloaded(self, reason: str, message: str) -> Overloaded:
        REFUSED.labels(reason).inc()
        return Overloaded(message, self.retry_after())
