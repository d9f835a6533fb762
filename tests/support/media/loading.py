"""An image or video, loaded in one go."""

from collections.abc import Sequence
from typing import Any

from saccade.media.controls import ImageControls, VideoControls
from saccade.media.loader import MediaLoader


async def load(
    loader: MediaLoader,
    source: str | Sequence[str],
    controls: ImageControls | VideoControls,
    param: str | None = None,
) -> Any:
    """Fetches, plans and decodes it."""
    return await loader.decode(await loader.plan(source, controls, param))
