"""Sends the requests that are left, as many at a time as the server takes."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from saccade.server.commands.batch.client import Answer, Client, NoAnswer
from saccade.server.commands.batch.errors import BatchStopped
from saccade.server.commands.batch.journal import Journal
from saccade.server.commands.batch.pace import Pace
from saccade.server.commands.batch.progress import Progress
from saccade.server.commands.batch.requests import BatchRequest

_OVERLOADED = (429, 503)
_AGAIN = (408, 409)
_LONGEST_DELAY = 30.0  # s
_TICK = 1.0  # s between two syncs of the journal


@dataclass(frozen=True)
class RetryPolicy:
    """`limit` tries after the first; `delay` seconds before the first of them, then doubled."""

    limit: int
    delay: float

    def wait(self, tries: int) -> float:
        """Seconds after so many tries that failed, with jitter: no two clients march in step."""
        longest: float = min(self.delay * 2.0 ** min(tries - 1, 30), _LONGEST_DELAY)
        return longest * random.uniform(0.75, 1.0)


class Sender:
    """Sends requests and writes what was answered."""

    def __init__(
        self, client: Client, journal: Journal, pace: Pace, retries: RetryPolicy, progress: Progress
    ) -> None:
        self._client = client
        self._journal = journal
        self._pace = pace
        self._retries = retries
        self._progress = progress
        self._answered = 0
        self._stopping = asyncio.Event()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def stop(self) -> int:
        """Sends nothing more; returns how many requests are under way, which are waited for."""
        self._stopping.set()
        self._pace.close()
        return self._pace.in_flight

    async def send(self, requests: Iterator[BatchRequest]) -> None:
        """Sends all of them, or until it is stopped.

        Raises:
            BatchStopped: the server answers nothing, or the disk takes no more.
            BatchUsageError: the input cannot be read any more.
        """
        tick = asyncio.create_task(self._tick())
        workers = [asyncio.create_task(self._work(requests)) for _ in range(self._pace.most)]
        everything = asyncio.gather(*workers)
        try:
            either: set[asyncio.Future[Any]] = {tick, everything}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if tick.done():
                await tick
            await everything
        finally:
            for task in (tick, *workers):
                task.cancel()
            await asyncio.gather(tick, everything, *workers, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            await asyncio.to_thread(self._journal.sync)
            self._progress.tick()

    async def _work(self, requests: Iterator[BatchRequest]) -> None:
        # A request is read when there is a slot for it, so no more are in memory than have slots.
        while await self._pace.acquire():
            request = next(requests, None)
            if request is None:
                self._pace.release()
                return
            try:
                body = await asyncio.to_thread(request.read_body)
            except OSError as error:
                self._pace.release()
                self._finish(request, None, "unreadable_file", f"{request.place}: {error.strerror}")
                continue
            except asyncio.CancelledError:
                self._pace.release()
                raise
            await self._send(request, body)

    async def _send(self, request: BatchRequest, body: bytes) -> None:
        """Until the answer is final. It has a slot when it is called, and none at the end."""
        loop = asyncio.get_running_loop()
        before = self._answered
        tries, seen = 0, before
        while True:
            sent, busy = loop.time(), self._pace.in_flight
            try:
                answer = await self._ask(request, body)
                others = self._pace.in_flight - 1
                status = answer.status if isinstance(answer, Answer) else None
                wait = (answer.retry_after if isinstance(answer, Answer) else None) or 0.0
                overloaded = status in _OVERLOADED
                if overloaded or status is None:
                    self._pace.overloaded(sent, wait)
                elif status < 300:
                    self._pace.went_well(busy)
            finally:
                self._pace.release()  # which lets the next one go: after the pace has changed
            if isinstance(answer, Answer) and _is_final(answer.status):
                self._answered += 1
                self._write(request, answer)
                return
            # A server that answers others is merely busy: that can take as long as it takes.
            if not overloaded or (self._answered == seen and not others):
                tries += 1
            seen = self._answered
            if tries > self._retries.limit:
                self._give_up(request, answer, nothing_answered=self._answered == before)
                return
            await self._sleep(max(wait, self._retries.wait(max(tries, 1))))
            if not await self._pace.acquire():
                return

    async def _ask(self, request: BatchRequest, body: bytes) -> Answer | NoAnswer:
        try:
            return await self._client.post(request.url, body)
        except NoAnswer as error:
            return error

    def _give_up(
        self, request: BatchRequest, answer: Answer | NoAnswer, *, nothing_answered: bool
    ) -> None:
        if isinstance(answer, NoAnswer):
            if nothing_answered:
                raise BatchStopped(f"the server cannot be reached: {answer}")
            self._finish(request, None, "no_answer", str(answer))
        elif answer.status in _OVERLOADED:
            raise BatchStopped(f"the server takes nothing any more: {answer.status} {answer.body}")
        else:
            self._write(request, answer)

    def _write(self, request: BatchRequest, answer: Answer) -> None:
        response = {
            "status_code": answer.status,
            "request_id": answer.request_id,
            "body": answer.body,
        }
        self._finish(request, response)

    def _finish(
        self,
        request: BatchRequest,
        response: dict[str, Any] | None,
        code: str = "",
        message: str = "",
    ) -> None:
        error = {"code": code, "message": message} if code else None
        failed = self._journal.append(request, response, error)
        self._progress.advance(failed=failed, at_a_time=int(self._pace.limit))

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


def _is_final(status: int) -> bool:
    return status < 500 and status not in (*_OVERLOADED, *_AGAIN)
