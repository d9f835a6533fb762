"""What waiting for a message costs on a CPU, between a writer and a reader of vLLM's queue."""

import threading
import time

import pytest
from vllm.distributed.device_communicators import shm_broadcast

from saccade.model.cpu.idle_wait import block_instead_of_spin, spin_again


@pytest.fixture
def queue():
    """A writer and its reader, as vLLM has them; changes of the class end with the test."""
    block_instead_of_spin()
    block_instead_of_spin()  # a process makes more than one of what calls it
    writer = shm_broadcast.MessageQueue(1, 1)
    reader = shm_broadcast.MessageQueue.create_from_handle(writer.export_handle(), 0)
    both = threading.Thread(target=writer.wait_until_ready)
    both.start()
    reader.wait_until_ready()
    both.join()
    yield writer, reader
    writer.shutdown()
    reader.shutdown()
    spin_again()


def test_who_waits_leaves_the_cpu_to_others(queue):
    writer, reader = queue
    writer.enqueue("first")  # since when vLLM's own reader looks again and again
    assert reader.dequeue(timeout=60) == "first"
    late = threading.Timer(0.5, writer.enqueue, ["second"])
    late.start()
    wall, cpu = time.monotonic(), time.thread_time()
    assert reader.dequeue(timeout=60) == "second"
    share = (time.thread_time() - cpu) / (time.monotonic() - wall)
    late.join()
    assert share < 0.05


def test_a_lost_notice_loses_no_message(queue, monkeypatch):
    writer, reader = queue
    monkeypatch.setattr(writer._spin_condition, "notify", lambda: None)
    late = threading.Timer(0.5, writer.enqueue, ["unnoticed"])
    late.start()
    began = time.monotonic()
    assert reader.dequeue(timeout=60) == "unnoticed"
    late.join()
    assert time.monotonic() - began < 3  # vLLM's own reader would look again after 5 s


def test_a_reader_that_waits_gives_up_in_time(queue):
    _, reader = queue
    with pytest.raises(TimeoutError):
        reader.dequeue(timeout=0.2)


def test_a_reader_that_waits_can_be_ended(queue):
    _, reader = queue
    threading.Timer(0.2, reader.shutdown).start()
    with pytest.raises(RuntimeError, match="cancelled"):
        reader.dequeue(indefinite=True)
