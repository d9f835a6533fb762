"""The media of one request: fetched and planned together, then decoded together."""

import asyncio
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from saccade.media.fetch.uploaded import Uploaded
from saccade.media.items import (
    DecodedImage,
    DecodedVideo,
    EngineMedium,
    PlannedImage,
    PlannedMedium,
)
from saccade.media.loader import MediaLoader
from saccade.media.planning.plan import VideoPlan
from saccade.media.types import CHANNELS
from saccade.server.admission.controller import Admission, Ticket
from saccade.server.core.metrics import (
    MEDIA_BYTES,
    MEDIA_CACHED,
    MEDIA_FRAMES,
    MEDIA_LOADING,
    MEDIA_PIXELS,
    VISUAL_TOKENS,
)
from saccade.server.engine.media_cache import MediaCache
from saccade.server.request.media_parts import MediaPart

Result = TypeVar("Result")

_INLINE = "data:"


async def plan_media(
    parts: Sequence[MediaPart],
    loader: MediaLoader,
    admission: Admission,
    ticket: Ticket,
    owner: str = "",
) -> list[PlannedMedium]:
    """Fetches and plans all media at the same time; the first that fails cancels the others.

    Args:
        owner: whose downloads may be taken again.

    Raises:
        MediaError: by path.
        ApiError: they are too many bytes for this server.
        Overloaded: too many requests wait already, or hold too many bytes.
    """
    if not parts:
        return []
    sources = (part.source for part in parts if not isinstance(part.source, Uploaded))
    urls = (url for source in sources for url in ([source] if isinstance(source, str) else source))
    admission.fetch(ticket, remote=not all(url.startswith(_INLINE) for url in urls))
    received = partial(admission.receive, ticket)

    async def plan(part: MediaPart) -> PlannedMedium:
        with MEDIA_LOADING.track_inprogress():
            planned = await loader.plan(part.source, part.controls, part.path, received, owner)
        MEDIA_BYTES.labels(part.modality).inc(planned.encoded_bytes)
        return planned

    return await _all([plan(part) for part in parts])


async def decode_media(
    planned: Sequence[PlannedMedium], loader: MediaLoader, cache: MediaCache
) -> list[EngineMedium]:
    """Decodes all media at the same time, but for those that the engine has; the first that fails
    cancels the others.

    Raises:
        MediaError: by path.
    """

    async def decode(medium: PlannedMedium) -> EngineMedium:
        kind = medium.modality
        result: EngineMedium | None = cache.find(medium, loader)
        if result is not None:
            MEDIA_CACHED.labels(kind).inc()
        else:
            with MEDIA_LOADING.track_inprogress():
                result = await loader.decode(medium)
            cache.remember(result)
        plan = result.plan
        frames = len(plan.frame_indices) if isinstance(plan, VideoPlan) else 1
        MEDIA_FRAMES.labels(kind).inc(frames)
        MEDIA_PIXELS.labels(kind).inc(frames * plan.width * plan.height)
        VISUAL_TOKENS.labels(kind).inc(plan.tokens)
        return result

    return await _all([decode(medium) for medium in planned])


def blank_media(planned: Sequence[PlannedMedium]) -> list[EngineMedium]:
    """Black in place of the pixels, which nobody looks at where a prompt is only counted.

    Memory that is never touched is never taken, so this costs nothing.
    """
    media: list[EngineMedium] = []
    for medium in planned:
        size = (medium.plan.height, medium.plan.width, CHANNELS)
        if isinstance(medium, PlannedImage):
            pixels = np.zeros(size, np.uint8)
            media.append(DecodedImage(pixels, medium.plan, medium.digest, medium.sideways))
        else:
            frames = np.zeros((len(medium.plan.frame_indices), *size), np.uint8)
            media.append(DecodedVideo(frames, medium.plan, medium.digest, medium.sideways))
    return media


async def _all(work: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    if len(work) == 1:
        return [await work[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(medium) for medium in work]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
