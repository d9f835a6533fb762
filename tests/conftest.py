"""Which tests may run beside each other."""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling


class _ByFolder(LoadScopeScheduling):
    """A folder's tests share what it starts once, so they stay in one process."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("::")[0].split("/")[1]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByFolder:
    """What ``pytest -n 2`` asks."""
    return _ByFolder(config, log)
