"""HTTP/1.1 whose request line and headers have to arrive in time.

uvicorn bounds the pause after an answer; a client that has sent one byte since, or none at all yet,
it would wait for without end. (CVE-2007-6750's way: many connections, each a header now and then.)
"""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_LATE = b"the request line and the headers did not arrive in time"


class HeaderTimeoutProtocol(H11Protocol):
    """uvicorn's h11 protocol with a timeout for request line and headers (Slowloris)."""

    header_seconds = 30.0

    _timer: asyncio.TimerHandle | None = None

    # uvicorn's protocol asks for a transport that can write, asyncio's for any.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Time runs from here, and from the first byte after an answer."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.header_seconds, self._give_up)

    def data_received(self, data: bytes) -> None:
        """Whether time runs on depends on what these bytes complete."""
        super().data_received(data)
        waits = self.conn.their_state is h11.IDLE and not self.transport.is_closing()
        if waits and self._timer is None:
            self._timer = self.loop.call_later(self.header_seconds, self._give_up)
        elif not waits and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        begun, _ = self.conn.trailing_data
        if begun:
            headers = [("content-type", "text/plain; charset=utf-8"), ("connection", "close")]
            for event in (
                h11.Response(status_code=408, headers=headers, reason=b"Request Timeout"),
                h11.Data(data=_LATE),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
