"""The FastAPI application: routes, middleware, error handling, signals."""

import asyncio
import signal
from argparse import Namespace
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from saccade.server import generation, routes, vllm_adapter
from saccade.server.errors import install_error_handlers
from saccade.server.lifecycle import LifecycleMiddleware
from saccade.server.security import ApiKeyMiddleware
from saccade.server.services import Services


def build_app(services: Services, arguments: Namespace, api_keys: Sequence[str]) -> FastAPI:
    """The application, still without vLLM's serving classes on its state.

    Args:
        services: what the routes work with.
        arguments: vLLM's parsed flags; those about CORS, documentation and ids are used here.
        api_keys: requests to /v1 must carry one of them; none: they need no key.
    """
    documented = not arguments.disable_fastapi_docs
    app = FastAPI(
        title="Saccade",
        version=version("saccade"),
        docs_url="/docs" if documented else None,
        redoc_url=None,
        openapi_url="/openapi.json" if documented else None,
        swagger_ui_oauth2_redirect_url=None,
        lifespan=_lifespan,
        root_path=arguments.root_path or "",
    )
    app.state.services = services
    app.state.args = arguments  # vLLM's handlers look for them here
    app.include_router(generation.router)
    app.include_router(routes.router)
    install_error_handlers(app)

    # The last one added is the first to see a request.
    app.add_middleware(LifecycleMiddleware, lifecycle=services.lifecycle)
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
    if arguments.enable_request_id_headers:
        app.add_middleware(vllm_adapter.XRequestIdMiddleware)
    vllm_adapter.attach_metrics(app)
    _describe_bodies(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    engine, lifecycle = app.state.services.engine, app.state.services.lifecycle
    async with vllm_adapter.vllm_lifespan(app):
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
        yield


def _describe_bodies(app: FastAPI) -> None:
    """Adds the request bodies, which the routes read themselves, to the OpenAPI document."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            for path, schema in vllm_adapter.request_schemas().items():
                schemas.update(schema.pop("$defs", {}))
                body = {"required": True, "content": {"application/json": {"schema": schema}}}
                document["paths"][path]["post"]["requestBody"] = body
            app.openapi_schema = document
        return app.openapi_schema

    # FastAPI's documented way to extend the document is to replace the method.
    app.openapi = openapi  # type: ignore[method-assign]
