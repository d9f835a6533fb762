"""The server that `saccade batch` is tested against."""

from collections.abc import Iterator

import pytest
from batch_server import BatchServer, running_batch_server


@pytest.fixture
def batch_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchServer]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with running_batch_server() as state:
        yield state
