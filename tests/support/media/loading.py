"""An image or video, loaded in one go."""

from collections.abc import Sequence
from threading import Event
from typing import Any

from saccade.media.controls import ImageControls, VideoControls
from saccade.media.limits import MediaLimits
from saccade.media.loader import MediaLoader
from saccade.media.planning.plan import PixelLimits, VideoPlan, VisionGeometry
from saccade.media.types import Pixels
from saccade.media.worker import MediaWorker


async def load(
    loader: MediaLoader,
    source: str | Sequence[str],
    controls: ImageControls | VideoControls,
    param: str | None = None,
) -> Any:
    """Fetches, plans and decodes it."""
    return await loader.decode(await loader.plan(source, controls, param))


def load_video(
    data: bytes,
    controls: VideoControls,
    limits: MediaLimits,
    cancelled: Event | None = None,
) -> tuple[Pixels, VideoPlan]:
    """The frames of a video file and the plan that they follow, as a worker thread makes them."""
    worker = MediaWorker(VisionGeometry(), PixelLimits(), limits, 1, 1)
    planned = worker.plan_video(data, controls, None)
    decoded = worker.decode_video(planned, 1, cancelled or Event())
    return decoded.frames, decoded.plan
