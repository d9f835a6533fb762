"""The server that a benchmark asks: one that runs somewhere, or one that is started for it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from saccade.benchmarks.common.report import say
from saccade.server.commands.child import LIGHT_FLAGS, ServerError, ServerProcess

_START_SECONDS = 600


@contextmanager
def measured_server(url: str | None, flags: Sequence[str] = LIGHT_FLAGS) -> Iterator[str]:
    """The server's address, without ``/v1``.

    Args:
        url: of one that runs, with or without ``/v1``; None to start one.
        flags: of ``saccade serve``.

    Raises:
        ServerError: it did not start, or died meanwhile.
    """
    if url is not None:
        yield url.rstrip("/").removesuffix("/v1")
        return
    with ServerProcess("demo", flags) as server:
        say("starting: saccade serve demo")
        server.wait_ready(_START_SECONDS)
        yield server.url
        if not server.alive():
            raise ServerError("the server died during the run", server.log_tail())
