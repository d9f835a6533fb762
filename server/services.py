"""What the routes work with."""

from dataclasses import dataclass

from fastapi import Request

from saccade.media.loader import MediaLoader
from saccade.server.admission import Admission
from saccade.server.handles import MediaHandles
from saccade.server.lifecycle import Lifecycle
from saccade.server.settings import Settings
from saccade.server.vllm_adapter import Engine


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
