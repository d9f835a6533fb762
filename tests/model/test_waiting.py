"""What waiting for a message costs on a CPU, between a writer and a reader of vLLM's queue."""

import threading
import time

import pytest
from vllm.distributed.device_communicators import shm_broadcast
from vllm.distributed.utils import sched_yield

from saccade.model.waiting import wait_in_short_sleeps


@pytest.fixture
def queue(monkeypatch):
    """A writer and its reader, as vLLM has them; changes of the module end with the test."""
    monkeypatch.setattr(shm_broadcast, "sched_yield", sched_yield)
    writer = shm_broadcast.MessageQueue(1, 1)
    reader = shm_broadcast.MessageQueue.create_from_handle(writer.export_handle(), 0)
    both = threading.Thread(target=writer.wait_until_ready)
    both.start()
    reader.wait_until_ready()
    both.join()
    yield writer, reader
    writer.shutdown()
    reader.shutdown()


def busy_share(writer, reader):
    """Of the time that a message is waited for, the share that this thread computes."""
    writer.enqueue("first")  # since when the reader looks again and again
    assert reader.dequeue(timeout=60) == "first"
    late = threading.Timer(0.5, writer.enqueue, ["second"])
    late.start()
    wall, cpu = time.monotonic(), time.thread_time()
    assert reader.dequeue(timeout=60) == "second"
    share = (time.thread_time() - cpu) / (time.monotonic() - wall)
    late.join()
    return share


def test_who_waits_leaves_the_cpu_to_others(queue):
    wait_in_short_sleeps()
    assert busy_share(*queue) < 0.2
