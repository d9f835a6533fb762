"""The end of processes, as the server hears of it; what it does then."""

import asyncio
import signal
import subprocess
import sys

import psutil
import pytest

from saccade.server.core import lifecycle as lifecycles
from saccade.server.core.lifecycle import Lifecycle
from saccade.server.engine.watchdog import computing_processes, end_processes, watched

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


@pytest.fixture
def children():
    with (
        subprocess.Popen([sys.executable, "-c", STUBBORN]) as one,
        subprocess.Popen([sys.executable, "-c", STUBBORN]) as other,
    ):
        yield one, other
        one.kill()
        other.kill()


@pytest.fixture
def child(children):
    return children[0]


async def test_the_end_of_a_process_is_reported_once(children):
    ended = asyncio.Event()
    calls = []

    def report():
        calls.append(1)
        ended.set()

    with watched([child.pid for child in children], report):
        await asyncio.sleep(0)
        assert calls == []
        for child in children:
            child.kill()
        await ended.wait()
        for child in children:
            child.wait()
        await asyncio.sleep(0.05)
    assert calls == [1]


async def test_nobody_is_told_after_the_watch(child):
    calls = []
    with watched([child.pid], lambda: calls.append(1)):
        pass
    child.kill()
    child.wait()
    await asyncio.sleep(0.05)
    assert calls == []


def test_a_process_that_will_not_leave_is_killed(child):
    assert [process.pid for process in computing_processes([child.pid])] == [child.pid]
    end_processes([psutil.Process(child.pid)])
    assert child.wait(60) == -signal.SIGKILL


def test_a_process_that_is_not_there():
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    assert computing_processes([gone.pid]) == ()


async def test_engine_death_is_told_before_the_server_stops(monkeypatch):
    monkeypatch.setattr(lifecycles, "_TELL_SECONDS", 0)
    stopped = []
    lifecycle = Lifecycle(drain_timeout=900)
    lifecycle.begin()
    assert lifecycle.refusal is None
    lifecycle.on_signal(stopped.append)  # draining does not hide it
    lifecycle.on_engine_death(stopped.append)
    lifecycle.on_signal(stopped.append)  # as the first of several processes sends
    assert lifecycle.refusal.code == "engine_dead"
    await asyncio.sleep(0.05)
    assert stopped == []
    lifecycle.end()
    await asyncio.sleep(0.05)
    assert stopped == [False]
