"""Dependencies of the routes, one set per process."""

from dataclasses import dataclass

from saccade.media.loader import MediaLoader
from saccade.server.admission.controller import Admission
from saccade.server.admission.pricing import capacity_per_process
from saccade.server.core.lifecycle import Lifecycle
from saccade.server.core.settings import Settings
from saccade.server.engine.client import Engine


@dataclass(frozen=True)
class Services:
    """Made once in each process; on ``app.state.services``."""

    engine: Engine
    settings: Settings
    loader: MediaLoader
    lifecycle: Lifecycle
    admission: Admission


def make_services(engine: Engine, settings: Settings, processes: int) -> Services:
    """The services of this process, one of so many before one engine."""
    loader = MediaLoader(
        engine.geometry,
        engine.pixel_limits,
        settings.fetch_policy,
        settings.media_workers,
        settings.media_limits,
    )
    admission = Admission(capacity_per_process(engine.limits, processes, settings))
    return Services(engine, settings, loader, Lifecycle(settings.drain_timeout), admission)
