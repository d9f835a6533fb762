"""Several API processes before one engine (`--api-server-count`).

vLLM starts the engine and watches the processes; in each runs our server. Like `client`,
this file knows vLLM's inside.
"""

import atexit
import multiprocessing
import os
import signal
import threading
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.process import BaseProcess
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import psutil
from vllm import AsyncEngineArgs
from vllm.entrypoints.launchers.launcher import setup_server
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.utils import bind_engine_zmq_listeners, launch_core_engines
from vllm.v1.executor import Executor
from vllm.v1.utils import APIServerProcessManager, wait_for_completion_or_failure

from saccade.server.engine.watchdog import computing_processes, end_processes

Worker = Callable[[Sequence[int], str, Any, Namespace, dict[str, Any]], None]
"""What each process runs: ids of the engine's processes, address, socket, arguments, and vLLM's
``client_config``."""

# Beyond the drain timeout, for a process to close its connections and end.
_LEAVE_SECONDS = 10
_AGAIN_SECONDS = 0.02  # until a signal that came at a bad moment comes again
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 (a folder with an unguessable name is made in it)


def serve_in_processes(arguments: Namespace, worker: Worker, drain_timeout: float) -> None:
    """Starts the engine and the API processes; returns once a signal has ended them.

    The socket is shared: a connection goes to the process with the fewest.

    Args:
        worker: a function of a module, or a `functools.partial` of one.
        drain_timeout: seconds that the processes may take to finish their requests.

    Raises:
        EngineFailed: the engine or a process died; the others have been ended.
        KeyboardInterrupt: a signal came before the engine was up; likewise.
        OSError: the address cannot be listened on.
    """
    count = arguments.api_server_count
    _share_metrics()
    address, sock = setup_server(arguments, reuse_port=True)
    engine_arguments = AsyncEngineArgs.from_cli_args(arguments)
    engine_arguments._api_process_count = count
    engine_arguments._api_process_rank = -1
    config = engine_arguments.create_engine_config(UsageContext.OPENAI_API_SERVER)
    listeners = bind_engine_zmq_listeners(config, count)
    log_stats = not engine_arguments.disable_log_stats
    executor = Executor.get_class(config)
    manager = engines = coordinator = None
    computing: tuple[psutil.Process, ...] = ()
    up = False
    try:
        _on_signals(_leave)
        with launch_core_engines(config, executor, log_stats, listeners.addresses) as launch:
            engines, coordinator = launch.engine_manager, launch.coordinator
            manager = APIServerProcessManager(
                address,
                sock,
                arguments,
                count,
                listeners.inputs,
                listeners.outputs,
                partial(worker, [process.pid for process in engines.processes]),
                coordinator.get_stats_publish_address() if coordinator else None,
                launch.tensor_queue,
            )
            launch.watched_frontend_processes = manager.processes
        up = True
        computing = computing_processes(process.pid for process in engines.processes)
        try:
            wait_for_completion_or_failure(manager, engines, coordinator)
        except RuntimeError as error:
            raise EngineFailed(str(error)) from None
    except _Leaving:
        # Another signal reaches the processes through us, and they stop at once.
        _on_signals(lambda *_: _end(manager))
        if not up:
            raise KeyboardInterrupt from None
        if manager is not None:
            manager.shutdown(timeout=drain_timeout + _LEAVE_SECONDS)
    finally:
        for part in (manager, engines, coordinator):
            if part is not None:
                part.shutdown(timeout=config.shutdown_timeout)
        # A signal may have come between the start of a process and its manager.
        started = [psutil.Process(child.pid) for child in multiprocessing.active_children()]
        for process in started:
            process.terminate()
        end_processes([*computing, *started])
        sock.close()


def _share_metrics() -> None:
    """Lets the processes count in shared memory. vLLM would take a folder for temporary files, and
    writing to a mapped file on a full disk kills the process."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        folder = TemporaryDirectory(prefix="saccade-metrics-", dir=_SHARED_MEMORY)
        atexit.register(folder.cleanup)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder.name


class EngineFailed(Exception):
    """The engine or a process before it died while the server was running."""


class _Leaving(BaseException):
    """A signal asked the server to end.

    Not KeyboardInterrupt, which vLLM swallows in some places and takes for the end in others.
    """


def _leave(number: int, frame: FrameType | None) -> None:
    """Raises `_Leaving`; in the middle of a process's start, a moment later.

    A process that is started by half never gets what it is to run, and says so with a traceback.
    """
    while frame is not None:
        if frame.f_code is BaseProcess.start.__code__:
            threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), number)).start()
            return
        frame = frame.f_back
    raise _Leaving


def _on_signals(handler: Callable[..., None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


def _end(manager: APIServerProcessManager | None) -> None:
    for process in manager.processes if manager is not None else ():
        process.terminate()
