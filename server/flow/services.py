"""Dependencies of the routes, one set per process."""

from dataclasses import dataclass

from saccade.media.loader import MediaLoader
from saccade.server.admission.controller import Admission
from saccade.server.admission.pricing import capacity_per_process
from saccade.server.core.lifecycle import Lifecycle
from saccade.server.core.settings import Settings
from saccade.server.engine.client import Engine
from saccade.server.files.store import FileStore


@dataclass(frozen=True)
class Services:
    """Made once in each process; on ``app.state.services``."""

    engine: Engine
    settings: Settings
    loader: MediaLoader
    lifecycle: Lifecycle
    admission: Admission
    files: FileStore | None = None


def make_services(engine: Engine, settings: Settings, processes: int) -> Services:
    """The services of this process, one of so many before one engine."""
    files = None
    if settings.files_dir is not None:
        most = int(settings.max_files_bytes), int(settings.max_media_bytes)
        files = FileStore(settings.files_dir, *most)
    loader = MediaLoader(
        engine.geometry,
        engine.pixel_limits,
        settings.fetch_policy,
        settings.media_workers,
        settings.media_limits,
        files.open if files else None,
    )
    admission = Admission(capacity_per_process(engine.limits, processes, settings))
    return Services(engine, settings, loader, Lifecycle(settings.drain_timeout), admission, files)
