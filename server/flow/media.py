"""Media of one request: fetched and decoded together, handed to vLLM, forgotten afterwards."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from saccade.media.fetch.fetcher import Received, anything
from saccade.media.items import DecodedImage, DecodedVideo, PlannedImage, PlannedMedium
from saccade.media.loader import MediaLoader
from saccade.media.planning.plan import ImagePlan, VideoPlan
from saccade.server.core.metrics import MEDIA_LOADING, count_fetched, count_shown
from saccade.server.core.request_context import note
from saccade.server.engine.handles import MediaHandles, Medium
from saccade.server.flow.gate import FetchGate
from saccade.server.request.media import SeenMedium, VisionTokens
from saccade.server.request.message_parts import ImagePart, MediaSlot, VideoPart, read_messages

Result = TypeVar("Result")


@dataclass(frozen=True)
class PreparedMessages:
    """Messages as vLLM shall see them; media are handles."""

    messages: object
    seen: tuple[SeenMedium, ...]  # in the order of the prompt

    @property
    def tokens(self) -> VisionTokens:
        """What all media of the request cost together."""
        image = sum(one.plan.tokens for one in self.seen if isinstance(one.plan, ImagePlan))
        return VisionTokens(image, sum(one.plan.tokens for one in self.seen) - image)

    def path_of(self, modality: str, index: int) -> str:
        """The place in the request of one of the media of a modality."""
        kind = ImagePlan if modality == "image" else VideoPlan
        return [medium.path for medium in self.seen if isinstance(medium.plan, kind)][index]


Load = Callable[[PlannedMedium, MediaLoader], Awaitable[Medium]]


async def load_medium(planned: PlannedMedium, loader: MediaLoader) -> Medium:
    """Decodes one planned medium."""
    with MEDIA_LOADING.track_inprogress():
        if isinstance(planned, PlannedImage):
            image = await loader.decode(planned)
            count_shown("image", 1, image.pixels.size // 3, image.plan.tokens)
            return image
        video = await loader.decode(planned)
        count_shown("video", len(video.frames), video.frames.size // 3, video.plan.tokens)
        return video


async def load_blank(planned: PlannedMedium, _: MediaLoader) -> Medium:
    """Black stands for the pixels of one planned medium, which nobody will look at.

    Memory that is never touched is never taken, so that it costs nothing to count a prompt.
    """
    plan = planned.plan
    if isinstance(planned, PlannedImage):
        pixels = np.zeros((plan.height, plan.width, 3), np.uint8)
        return DecodedImage(pixels, planned.plan, planned.digest, planned.sideways)
    frames = np.zeros((len(planned.plan.frame_indices), plan.height, plan.width, 3), np.uint8)
    return DecodedVideo(frames, planned.plan, planned.digest, planned.sideways)


@asynccontextmanager
async def prepared_messages(
    messages: object,
    loader: MediaLoader,
    handles: MediaHandles,
    read: Callable[[object], tuple[object, list[MediaSlot]]] = read_messages,
    load: Load = load_medium,
    gate: FetchGate | None = None,
) -> AsyncIterator[PreparedMessages]:
    """Loads every medium in ``messages`` and puts handles in their places.

    Args:
        read: finds the media; `read_input` where ``messages`` are the input of a response.
        load: `load_blank` where the prompt is only counted.
        gate: where the request is admitted; without one nobody waits.

    All media are fetched and planned at the same time, then the request passes ``gate``, then all
    are decoded; the first that fails cancels the others. Handles that vLLM did not redeem are
    revoked at the end, however it comes.

    Raises:
        InvalidRequest, MediaError: as `read_messages` and `MediaLoader`, by path.
        ApiError: the gate's.
    """
    rewritten, slots = read(messages)
    if not slots:
        if gate is not None:
            await gate.admit(rewritten)
        yield PreparedMessages(rewritten, ())
        return
    if gate is not None:
        gate.fetch([slot.part for slot in slots])
    received = gate.received if gate is not None else anything
    planned = await _all([_plan(slot.part, loader, received) for slot in slots])
    if gate is not None:
        paths = [slot.part.path for slot in slots]
        await gate.admit(rewritten, list(zip(paths, planned, strict=True)))
    media = await _all([load(one, loader) for one in planned])
    del planned
    seen = tuple(
        SeenMedium(slot.part.path, medium.plan, medium.sideways)
        for slot, medium in zip(slots, media, strict=True)
    )
    prepared = PreparedMessages(rewritten, seen)
    note(image_tokens=prepared.tokens.image, video_tokens=prepared.tokens.video)
    issued: list[str] = []
    try:
        for slot, medium in zip(slots, media, strict=True):
            issued.append(handles.issue(medium))
            slot.fill(issued[-1])
        # The rasters belong to whoever redeems them: not to be kept while the answer is made.
        del media, medium
        yield prepared
    finally:
        for url in issued:
            handles.revoke(url)


async def _all(work: Sequence[Awaitable[Result]]) -> list[Result]:
    if len(work) == 1:
        return [await work[0]]

    async def one(awaited: Awaitable[Result]) -> Result:
        return await awaited

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(awaited)) for awaited in work]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def _plan(
    part: ImagePart | VideoPart, loader: MediaLoader, received: Received
) -> PlannedMedium:
    with MEDIA_LOADING.track_inprogress():
        if isinstance(part, ImagePart):
            image = await loader.plan(part.url, part.controls, part.path, received)
            count_fetched("image", image.encoded_bytes)
            return image
        video = await loader.plan(part.source, part.controls, part.path, received)
        count_fetched("video", video.encoded_bytes)
        return video
