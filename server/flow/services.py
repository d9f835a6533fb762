"""What the routes work with."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request

from saccade.media.loader import MediaLoader
from saccade.server.admission.controller import Admission
from saccade.server.core.lifecycle import Lifecycle
from saccade.server.core.settings import Settings
from saccade.server.engine.client import Engine
from saccade.server.engine.handles import MediaHandles
from saccade.server.http.connection import read_json, while_connected

Result = TypeVar("Result")


@dataclass(frozen=True)
class Services:
    """Made once in each process; on ``app.state.services``."""

    engine: Engine
    settings: Settings
    loader: MediaLoader
    handles: MediaHandles
    lifecycle: Lifecycle
    admission: Admission


def services_of(request: Request) -> Services:
    """The services of the application that ``request`` came to."""
    services: Services = request.app.state.services
    return services


async def run_with_body(
    request: Request,
    work: Callable[[Services, dict[str, Any], Request], Coroutine[Any, Any, Result]],
) -> Result:
    """What ``work`` makes of the request's JSON body, unless client or engine are gone before."""
    services = services_of(request)
    body = await read_json(request, int(services.settings.max_request_bytes))
    done = work(services, body, request)
    return await while_connected(request, done, services.lifecycle.engine_death)
