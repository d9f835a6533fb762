"""Starts vLLM's engine and HTTP server, and ends them."""

from argparse import Namespace
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from fastapi import FastAPI
from vllm.entrypoints.launchers.api_server.entry import build_async_engine_client
from vllm.entrypoints.launchers.launcher import serve_http, setup_server
from vllm.entrypoints.launchers.utils.server_utils import get_uvicorn_log_config

from saccade.server.engine.client import Engine
from saccade.server.engine.prompt.renderer import use_plain_text_renderer
from saccade.server.engine.tool_calls import use_bounded_tool_calls
from saccade.server.engine.watchdog import end_processes
from saccade.server.http.protocol import HeaderTimeoutProtocol


@asynccontextmanager
async def running_engine(
    arguments: Namespace,
    shared: dict[str, Any] | None = None,
    engines: Sequence[int] | None = None,
) -> AsyncIterator[Engine]:
    """Starts the engine's processes and ends them on leaving; or joins one that others share.

    Args:
        shared: vLLM's ``client_config`` of this process (see `api_processes`).
        engines: ids of the engine's processes where they are not this process's own.
    """
    use_plain_text_renderer()
    use_bounded_tool_calls()
    async with build_async_engine_client(arguments, client_config=shared) as client:
        engine = Engine(client, arguments, engines)
        yield engine
    if shared is None:
        end_processes(engine.processes)


@contextmanager
def bound_socket(arguments: Namespace) -> Iterator[Any]:
    """The listening socket, taken before the model loads so that a taken port is told at once."""
    _, sock = setup_server(arguments, reuse_port=False)
    try:
        yield sock
    finally:
        sock.close()


async def serve_until_stopped(
    app: FastAPI, arguments: Namespace, sock: Any, loads: Any = None
) -> None:
    """Serves HTTP until ``app.state.server`` is told to exit or the engine dies.

    Args:
        loads: connections of each process on the socket, and which of them is this one.
    """
    # With the parser that obeys the limits of headers; uvicorn's faster one has none.
    extra: dict[str, Any] = {"http": HeaderTimeoutProtocol}
    if (log_config := get_uvicorn_log_config(arguments)) is not None:
        extra["log_config"] = log_config
    finish = await serve_http(
        app,
        sock=sock,
        enable_ssl_refresh=arguments.enable_ssl_refresh,
        peer_loads=loads,
        host=arguments.host,
        port=arguments.port,
        log_level=arguments.uvicorn_log_level,
        access_log=False,  # our own says more (see `middleware.outermost`)
        ssl_keyfile=arguments.ssl_keyfile,
        ssl_certfile=arguments.ssl_certfile,
        ssl_ca_certs=arguments.ssl_ca_certs,
        ssl_cert_reqs=arguments.ssl_cert_reqs,
        ssl_ciphers=arguments.ssl_ciphers,
        h11_max_incomplete_event_size=arguments.h11_max_incomplete_event_size,
        h11_max_header_count=arguments.h11_max_header_count,
        # By then the requests have had their drain timeout; what is left is cut off.
        timeout_graceful_shutdown=2,
        **extra,
    )
    await finish
