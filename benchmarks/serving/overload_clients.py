"""The clients of `saccade bench overload`: what they send when, and what comes of it."""

import asyncio
import gc
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice

import uvloop
from aiohttp import ClientSession

from saccade.benchmarks.common.load import Outcome, open_client, send
from saccade.benchmarks.common.workloads import Request
from saccade.benchmarks.serving.overload_requests import KINDS, Kind, Question
from saccade.server.commands.child import ServerError

_TIMEOUT = 600.0  # seconds without a byte
_LEAVERS = 0.1  # of all clients
_LEAVE_WITHIN = 3.0  # seconds


@dataclass
class Tally:
    """What came of the load."""

    accepted: Counter[Kind] = field(default_factory=Counter)
    first_tokens: dict[Kind, list[float]] = field(default_factory=lambda: {k: [] for k in KINDS})
    refusals: list[float] = field(default_factory=list)  # seconds
    left: int = 0
    unsent: int = 0  # no client was free
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def count(self, question: Question, outcome: Outcome, seconds: float) -> None:
        """Count the outcome of one request."""
        if outcome.error == "http_429":
            self.refusals.append(seconds)
        elif outcome.error is not None:
            self.lost.append(f"{question.kind}: {outcome.error} {outcome.detail}")
        elif question.right(outcome.text, outcome.prompt_tokens):
            self.accepted[question.kind] += 1
            if outcome.first_token is not None:
                self.first_tokens[question.kind].append(outcome.first_token)
        else:
            self.wrong.append(
                f"{question.kind}: {outcome.text!r} ({outcome.prompt_tokens} tokens) instead of "
                f"{question.expected!r} ({question.prompt_tokens})"
            )

    def __add__(self, other: "Tally") -> "Tally":
        first_tokens = {kind: self.first_tokens[kind] + other.first_tokens[kind] for kind in KINDS}
        return Tally(
            self.accepted + other.accepted,
            first_tokens,
            self.refusals + other.refusals,
            self.left + other.left,
            self.unsent + other.unsent,
            self.wrong + other.wrong,
            self.lost + other.lost,
        )


@dataclass(frozen=True)
class Load:
    """Questions that come at random moments.

    Args:
        rate: a second.
        clients: who ask; what comes when none of them is free is not sent.
        seconds: for which they come.
    """

    questions: Sequence[Question]
    rate: float
    clients: int
    seconds: float
    seed: str


@dataclass(frozen=True)
class Server:
    """Whom to ask."""

    url: str
    api_key: str | None

    def client(self, connections: int) -> ClientSession:
        """A client of so many connections."""
        return open_client(self.url, connections, _TIMEOUT, self.api_key)


async def ask(client: ClientSession, question: Question) -> Outcome:
    """The answer to one question."""
    request = Request(0, question.body, "video" if question.kind == "clip" else "image", 0)
    return await send(client, request)


def first_tokens_alone(server: Server, questions: Sequence[Question], count: int) -> list[float]:
    """Seconds to the first token of so many questions, one after the other.

    Raises:
        ServerError: one is not answered.
    """

    async def first_token(client: ClientSession, question: Question) -> float:
        outcome = await ask(client, question)
        if outcome.first_token is None:
            raise ServerError(f"an idle server answered {outcome.error} {outcome.detail}")
        return outcome.first_token

    async def ask_all() -> list[float]:
        async with server.client(1) as client:
            return [await first_token(client, one) for one in islice(cycle(questions), count)]

    return uvloop.run(ask_all())


def put_alone(server: Server, load: Load) -> Tally:
    """`put`, for a process that does nothing else."""
    return uvloop.run(put(server, load))


def forget_garbage() -> None:
    """A search for garbage among all that is loaded by now would hold all clients up at once."""
    gc.collect()
    gc.freeze()


async def put(server: Server, load: Load) -> Tally:
    """Puts the load on the server; returns when all have their answers."""
    choose = random.Random(load.seed)
    tally = Tally()
    running: set[asyncio.Task[None]] = set()

    async def one(question: Question, leave_after: float | None) -> None:
        start = time.perf_counter()
        try:
            async with asyncio.timeout(leave_after):
                outcome = await ask(client, question)
        except TimeoutError:
            tally.left += 1
            return
        tally.count(question, outcome, time.perf_counter() - start)

    async with server.client(load.clients) as client:
        begin = time.perf_counter()
        due = 0.0
        while due < load.seconds:
            await asyncio.sleep(begin + due - time.perf_counter())
            due += choose.expovariate(load.rate)
            if len(running) >= load.clients:
                tally.unsent += 1
                continue
            leaves = choose.random() < _LEAVERS
            after = choose.uniform(0, _LEAVE_WITHIN) if leaves else None
            task = asyncio.create_task(one(choose.choice(load.questions), after))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)
    return tally
