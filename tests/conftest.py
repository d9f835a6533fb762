"""Which tests may run beside each other, and where."""

import os
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


def pytest_configure() -> None:
    """Each process of ``pytest -n 2`` has a core for its engines: vLLM would bind all to one."""
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        cores = sorted(os.sched_getaffinity(0))
        core = cores[int(worker.removeprefix("gw")) % len(cores)]
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", str(core))
