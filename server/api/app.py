"""The FastAPI application: routes, middleware, error handling, signals."""

import asyncio
import signal
from argparse import Namespace
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from saccade.server.api import (
    docs,
    files,
    generation,
    messages,
    playground,
    responses,
    status,
    tokenize,
    vision_plan,
)
from saccade.server.api.openapi import document
from saccade.server.core.errors import install_error_handlers
from saccade.server.engine import client
from saccade.server.flow.services import Services
from saccade.server.middleware.admission import AdmissionMiddleware
from saccade.server.middleware.api_key import ApiKeyMiddleware
from saccade.server.middleware.outermost import OutermostMiddleware


def build_app(
    services: Services, arguments: Namespace, api_keys: Sequence[str], with_playground: bool = True
) -> FastAPI:
    """The application, still without vLLM's serving classes on its state.

    Args:
        services: what the routes work with.
        arguments: vLLM's parsed flags; those about CORS, documentation and ids are used here.
        api_keys: requests to /v1 must carry one of them; none: they need no key.
        with_playground: serve the page that asks the model from a browser.
    """
    documented = not arguments.disable_fastapi_docs
    app = FastAPI(
        title="Saccade",
        version=version("saccade"),
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if documented else None,
        lifespan=_lifespan,
        root_path=arguments.root_path or "",
    )
    app.state.services = services
    app.state.args = arguments  # vLLM's handlers look for them here
    for part in (generation, responses, messages, files, vision_plan, tokenize, status):
        app.include_router(part.router)
    if documented:
        app.include_router(docs.router)
    if with_playground:
        app.include_router(playground.router)
    install_error_handlers(app)

    # The last one added is the first to see a request.
    app.add_middleware(
        AdmissionMiddleware,
        lifecycle=services.lifecycle,
        admission=services.admission,
        most_headers=arguments.h11_max_header_count,
    )
    if api_keys:
        app.add_middleware(ApiKeyMiddleware, keys=api_keys)
    if arguments.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=arguments.allowed_origins,
            allow_credentials=arguments.allow_credentials,
            allow_methods=arguments.allowed_methods,
            allow_headers=arguments.allowed_headers,
        )
    client.attach_metrics(app)
    app.add_middleware(
        OutermostMiddleware,
        log_access=not arguments.disable_uvicorn_access_log,
        unlogged=(arguments.disable_access_log_for_endpoints or "").split(","),
        traced=bool(arguments.otlp_traces_endpoint),
    )
    document.describe(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    engine, lifecycle = app.state.services.engine, app.state.services.lifecycle
    async with client.vllm_lifespan(app):
        # serve_http has set its own handlers before it starts us. They would stop the engine
        # first and cut off the requests in it; ours take their place.
        server = app.state.server

        def stop(at_once: bool) -> None:
            server.should_exit = True
            if at_once:
                server.force_exit = True
                engine.end_at_once()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lifecycle.on_signal, stop)
        with engine.watched(lambda: lifecycle.on_engine_death(stop)):
            yield
