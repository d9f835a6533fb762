"""The server that a benchmark asks: one that runs somewhere, or one that is started for it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from saccade.benchmarks.common.report import say
from saccade.server.commands.child import LIGHT_FLAGS, ServerError, ServerProcess


@contextmanager
def measured_server(
    url: str | None,
    model: str = "demo",
    flags: Sequence[str] = LIGHT_FLAGS,
    start_seconds: float = 600,
) -> Iterator[str]:
    """The server's address, without ``/v1``.

    Args:
        url: of one that runs, with or without ``/v1``; None to start one.
        model: that the started one serves.
        flags: of ``saccade serve``.
        start_seconds: until it must be ready.

    Raises:
        ServerError: it did not start, or died meanwhile.
    """
    if url is not None:
        yield url.rstrip("/").removesuffix("/v1")
        return
    with ServerProcess(model, flags) as server:
        say(f"starting: saccade serve {model}")
        server.wait_ready(start_seconds)
        yield server.url
        if not server.alive():
            raise ServerError("the server died during the run", server.log_tail())
