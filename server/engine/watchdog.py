"""The engine's processes: told at once when one of them ends, and none left behind."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

import psutil

logger = logging.getLogger("saccade.server")

# vLLM names its processes VLLM::EngineCore and VLLM::Worker; other children of theirs (compilers,
# resource trackers) may end when they like.
_COMPUTING = "VLLM::"
_LEAVE_SECONDS = 1.0


def computing_processes(engines: Iterable[int]) -> tuple[psutil.Process, ...]:
    """The processes with these ids and the workers that they have started; all have to live."""
    found: list[psutil.Process] = []
    for number in engines:
        with suppress(psutil.NoSuchProcess):
            engine = psutil.Process(number)
            found.append(engine)
            children = engine.children(recursive=True)
            found += [child for child in children if child.name().startswith(_COMPUTING)]
    return tuple(found)


@contextmanager
def watched(numbers: Sequence[int], ended: Callable[[], None]) -> Iterator[None]:
    """Calls ``ended`` on the running event loop, once, as soon as one of these processes ends.

    The kernel reports it; nothing is polled.
    """
    loop = asyncio.get_running_loop()
    descriptors: list[int] = []

    def unwatch() -> None:
        while descriptors:
            descriptor = descriptors.pop()
            loop.remove_reader(descriptor)
            os.close(descriptor)

    def report(number: int) -> None:
        if descriptors:
            unwatch()
            logger.error("process %d of the engine has ended", number)
            ended()

    try:
        for number in numbers:
            descriptors.append(os.pidfd_open(number))
            loop.add_reader(descriptors[-1], report, number)
        yield
    finally:
        unwatch()


def end_processes(processes: Iterable[psutil.Process]) -> None:
    """Waits a moment for these processes to end, then kills them.

    A worker whose engine was killed notices by itself, but not while it computes.
    """
    _, left = psutil.wait_procs(processes, _LEAVE_SECONDS)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
