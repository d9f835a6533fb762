"""Limits the memory that all decoders hold together: a FIFO semaphore that counts bytes."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Budget:
    """Admits work while the sum of its costs stays within ``limit``; first come, first served.

    Work that alone costs more than the limit waits until it is alone; what came after it waits too.
    For one event loop.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def held(self) -> int:
        """The sum of the costs that are admitted."""
        return self._held

    @asynccontextmanager
    async def hold(self, cost: int) -> AsyncIterator[None]:
        """Waits for its turn and holds ``cost`` for as long as the block lasts."""
        await self._enter(cost)
        try:
            yield
        finally:
            self._leave(cost)

    async def _enter(self, cost: int) -> None:
        if not self._waiting and self._fits(cost):
            self._held += cost
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((cost, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting = deque(entry for entry in self._waiting if entry[1] is not turn)
                self._admit()  # it may have held up smaller work behind it
            else:  # admitted at the very moment that it was cancelled
                self._leave(cost)
            raise

    def _leave(self, cost: int) -> None:
        self._held -= cost
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            cost, turn = self._waiting.popleft()
            self._held += cost
            turn.set_result(None)

    def _fits(self, cost: int) -> bool:
        return self._held == 0 or self._held + cost <= self._limit
