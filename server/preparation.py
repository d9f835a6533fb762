"""Media of one request: fetched and decoded together, handed to vLLM, forgotten afterwards."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from saccade.media.loader import MediaLoader
from saccade.media.plan import ImagePlan, VideoPlan
from saccade.server.content import ImagePart, MediaSlot, VideoPart, read_messages
from saccade.server.handles import MediaHandles, Medium
from saccade.server.metrics import MEDIA_LOADING, count_shown


@dataclass(frozen=True)
class VisionTokens:
    """Prompt tokens by kind of medium."""

    image: int = 0
    video: int = 0


@dataclass(frozen=True)
class SeenMedium:
    """What the model is shown of one medium. ``path`` is its part's place in the request."""

    path: str
    plan: ImagePlan | VideoPlan


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


@asynccontextmanager
async def prepared_messages(
    messages: object, loader: MediaLoader, handles: MediaHandles
) -> AsyncIterator[PreparedMessages]:
    """Loads every medium in ``messages`` and puts handles in their places.

    All media load at the same time; the first that fails cancels the others. Handles that vLLM
    did not redeem are revoked at the end, however it comes.

    Raises:
        InvalidRequest, MediaError: as `read_messages` and `MediaLoader`, by path.
    """
    rewritten, slots = read_messages(messages)
    if not slots:
        yield PreparedMessages(rewritten, ())
        return
    media = await _load_all(slots, loader)
    seen = tuple(
        SeenMedium(slot.part.path, medium.plan) for slot, medium in zip(slots, media, strict=True)
    )
    issued: list[str] = []
    try:
        for slot, medium in zip(slots, media, strict=True):
            issued.append(handles.issue(medium))
            slot.fill(issued[-1])
        # The rasters belong to whoever redeems them: not to be kept while the answer is made.
        del media, medium
        yield PreparedMessages(rewritten, seen)
    finally:
        for url in issued:
            handles.revoke(url)


async def _load_all(slots: list[MediaSlot], loader: MediaLoader) -> list[Medium]:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_load(slot.part, loader)) for slot in slots]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def _load(part: ImagePart | VideoPart, loader: MediaLoader) -> Medium:
    with MEDIA_LOADING.track_inprogress():
        if isinstance(part, ImagePart):
            image = await loader.image(part.url, part.controls, part.path)
            count_shown("image", 1, image.pixels.size // 3, image.plan.tokens)
            return image
        video = await loader.video(part.source, part.controls, part.path)
        count_shown("video", len(video.frames), video.frames.size // 3, video.plan.tokens)
        return video
