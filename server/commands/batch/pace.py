"""How many requests are under way at a time: additive increase, multiplicative decrease."""

import asyncio
from collections import deque

_FIRST = 4


class Pace:
    """Slots for requests. Their number follows the server.

    It begins at 4 or `most`, grows by one for each round of answers while all slots are taken, and
    is halved when the server is overloaded.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(min(_FIRST, most))
        self.in_flight = 0
        self._resume_at = 0.0  # s, of the event loop's clock
        self._last_cut = 0.0
        self._closed = False
        self._waiting = deque[asyncio.Future[bool]]()

    async def acquire(self) -> bool:
        """Waits for a slot and takes it; False without one once the pace is closed."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._wake()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.result():
                self.release()
            raise

    def release(self) -> None:
        """Gives a slot back."""
        self.in_flight -= 1
        self._wake()

    def close(self) -> None:
        """No slot is given any more."""
        self._closed = True
        self._wake()

    def went_well(self, busy: int) -> None:
        """A request was answered, sent when `busy` were under way with it."""
        if busy >= int(self.limit):
            self.limit = min(self.limit + 1 / self.limit, float(self.most))

    def overloaded(self, sent: float, wait: float) -> None:
        """The server refused a request that was sent at `sent`; nothing is sent for `wait` s."""
        loop = asyncio.get_running_loop()
        # What was sent before the last cut says nothing about the rate since.
        if sent >= self._last_cut:
            self.limit = max(1.0, self.limit / 2)
            self._last_cut = loop.time()
        if wait and loop.time() + wait > self._resume_at:
            self._resume_at = loop.time() + wait
            loop.call_at(self._resume_at, self._resume, self._resume_at)

    def _resume(self, due: float) -> None:
        if due >= self._resume_at:  # else a longer wait was asked for since
            self._resume_at = 0.0
            self._wake()

    def _wake(self) -> None:
        while self._waiting:
            free = self.in_flight < int(self.limit)
            paused = asyncio.get_running_loop().time() < self._resume_at
            if not self._closed and (paused or not free):
                return
            future = self._waiting.popleft()
            if not future.done():
                self.in_flight += not self._closed
                future.set_result(not self._closed)
