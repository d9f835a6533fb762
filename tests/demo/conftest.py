"""One server of the bundled model for the tests that only ask it."""

from collections.abc import Iterator

import pytest

from saccade.server.commands.child import LIGHT_FLAGS, ServerProcess


@pytest.fixture(scope="session")
def trained_server(starts_engine: None) -> Iterator[str]:
    """Its root URL. It computes in float32, where ties do not happen."""
    with ServerProcess("demo", (*LIGHT_FLAGS, "--dtype=float32")) as server:
        server.wait_ready(600)
        yield server.url
