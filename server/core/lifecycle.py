"""Which requests are under way, and how the server comes to its end.

The first SIGTERM or SIGINT drains: ``/ready`` turns red, new API requests get 503, those under
way finish, bounded by a timeout. Then the HTTP server stops and after it the engine. A second
signal ends the waiting at once.

When the engine dies, ``/health`` and ``/ready`` turn red and every request, under way or new, is
answered with that. Once they are, the HTTP server stops.
"""

import asyncio
import logging
from collections.abc import Callable

from saccade.server.core.errors import ApiError, EngineDied, Unavailable
from saccade.server.core.metrics import REQUESTS_IN_FLIGHT

logger = logging.getLogger("saccade.server")


# Seconds that a server with a dead engine answers on: so long probes, balancers and clients are
# told what is wrong before they find nobody there.
_TELL_SECONDS = 1.0
_LAST_ANSWERS_SECONDS = 3.0


class Lifecycle:
    """State of one server process between start and end. Made on its event loop."""

    def __init__(self, drain_timeout: float) -> None:
        self.draining = False
        self.engine_death: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._drain_timeout = drain_timeout  # seconds
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._drain: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """A request has come in."""
        self._in_flight += 1
        REQUESTS_IN_FLIGHT.inc()
        self._idle.clear()

    def end(self) -> None:
        """A request has been answered, or its client has gone."""
        self._in_flight -= 1
        REQUESTS_IN_FLIGHT.dec()
        if not self._in_flight:
            self._idle.set()

    @property
    def refusal(self) -> ApiError | None:
        """Why no new request is taken; None: they are."""
        if self.engine_death.done():
            return EngineDied()
        if self.draining:
            return Unavailable("the server is shutting down", code="draining")
        return None

    def on_signal(self, stop: Callable[[bool], None]) -> None:
        """What SIGTERM and SIGINT do.

        Args:
            stop: ends the HTTP server; True: without waiting for its connections.
        """
        if self.engine_death.done():
            return  # already on the way out, and sooner
        if self.draining:
            logger.info("second signal: stopping at once")
            if self._drain is not None:
                self._drain.cancel()
            stop(True)
            return
        self.draining = True
        logger.info("draining %d requests, then stopping", self._in_flight)
        self._drain = asyncio.ensure_future(self._wait_then(stop, self._drain_timeout))

    def on_engine_death(self, stop: Callable[[bool], None]) -> None:
        """What the end of one of the engine's processes does; ``stop`` as in `on_signal`."""
        logger.error("the engine has died: ending %d requests, then stopping", self._in_flight)
        self.engine_death.set_result(None)
        if self._drain is not None:
            self._drain.cancel()
        self._drain = asyncio.ensure_future(self._tell_then(stop))

    async def _tell_then(self, stop: Callable[[bool], None]) -> None:
        await asyncio.sleep(_TELL_SECONDS)
        await self._wait_then(stop, _LAST_ANSWERS_SECONDS)

    async def _wait_then(self, stop: Callable[[bool], None], seconds: float) -> None:
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            logger.warning("%d requests have not ended in %g s", self._in_flight, seconds)
        stop(False)
