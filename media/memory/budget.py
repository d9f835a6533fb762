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
        self.holders = 0  # works that are admitted
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def held(self) -> int:
        """The sum of the costs that are admitted."""
        return self._held

    @asynccontextmanager
    async def hold(self, cost: int) -> AsyncIterator[None]:
        """Waits for its turn and holds ``cost`` for as long as the block lasts."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((cost, turn))
        self._admit()
        try:
            await turn
            yield
        finally:
            if not turn.cancelled():  # while it waited
                self._held -= cost
                self.holders -= 1
            self._admit()

    def _admit(self) -> None:
        while self._waiting:
            cost, turn = self._waiting[0]
            if not turn.cancelled():
                if self._held and self._held + cost > self._limit:
                    return
                self._held += cost
                self.holders += 1
                turn.set_result(None)
            self._waiting.popleft()
