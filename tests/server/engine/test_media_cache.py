"""vLLM's own caches: the list in the API process and what the engine has never part."""

import asyncio
import random
from types import SimpleNamespace

import numpy as np
import pytest
from vllm.multimodal.cache import (
    LruKeyReplicatedReceiverCache,
    LruKeyReplicatedSenderCache,
    MultiModalProcessorOnlyCache,
)
from vllm.multimodal.inputs import MultiModalFeatureSpec, PlaceholderRange
from vllm.utils.mem_constants import GiB_bytes

from saccade.media.items import DecodedImage, PlannedImage
from saccade.media.planning.plan import ImagePlan
from saccade.model.compat.engine_input import engine_item
from saccade.server.engine.media_cache import MediaCache

SIDE = 28
IMAGE = 3 * SIDE * SIDE + 24  # bytes, with its grid
PLAN = ImagePlan(SIDE, SIDE, SIDE, SIDE, (1, 2, 2), 1)


def planned(number: int) -> PlannedImage:
    """An image whose pixels are its number."""
    header = SimpleNamespace(decoding_bytes=0, sideways=False)
    return PlannedImage(bytes([number]), header, PLAN, False, f"image {number}", None)


class Loader:
    """Decodes at once, or while others go on."""

    def __init__(self) -> None:
        self.decoded: list[str] = []

    async def decode(self, medium: PlannedImage) -> DecodedImage:
        await asyncio.sleep(0)
        self.decoded.append(medium.digest)
        pixels = np.full((SIDE, SIDE, 3), medium.data[0], np.uint8)
        return DecodedImage(pixels, medium.plan, medium.digest)


class Engine:
    """A `MediaCache` and the engine's side of it."""

    def __init__(self, images: float, kind=LruKeyReplicatedSenderCache) -> None:
        sizes = SimpleNamespace(mm_processor_cache_gb=images * IMAGE / GiB_bytes)
        config = SimpleNamespace(get_multimodal_config=lambda: sizes)
        listed = kind(config) if images else None
        self.cache = MediaCache(
            SimpleNamespace(
                mm_processor_cache=listed, model_config=config, update_mm_cache_stats=lambda: None
            )
        )
        self.receiver = None
        if kind is LruKeyReplicatedSenderCache and images:
            self.receiver = LruKeyReplicatedReceiverCache(config)
        self.loader = Loader()
        self.sent: list[int] = []  # how many of a request's media were sent with their pixels
        self.cache.lead_requests_through(core := SimpleNamespace(add_request_async=self._receive))
        self._send = core.add_request_async

    async def _receive(self, request: SimpleNamespace) -> None:
        features = request.mm_features
        self.sent.append(sum(feature.data is not None for feature in features))
        if self.receiver is not None:
            features = self.receiver.get_and_update_features(features)
        request.seen = [int(feature.data["pixel_values"].data[0, 0]) for feature in features]

    async def media(self, numbers: list[int]) -> list[MultiModalFeatureSpec]:
        """As a request takes them, up to its sending."""
        media = []
        for one in map(planned, numbers):
            found = self.cache.find(one, self.loader)
            media.append(found or await self.loader.decode(one))
        return [
            MultiModalFeatureSpec(
                engine_item(medium), "image", medium.digest, PlaceholderRange(place, 1)
            )
            for place, medium in enumerate(media)
        ]

    async def send(self, features: list[MultiModalFeatureSpec]) -> list[int]:
        """The numbers that the engine sees."""
        request = SimpleNamespace(mm_features=features)
        await self._send(request)
        return request.seen

    async def ask(self, *numbers: int) -> None:
        """A request from its beginning to its end."""
        assert await self.send(await self.media([*numbers])) == [*numbers]


async def test_what_the_engine_has_is_neither_decoded_nor_sent():
    engine = Engine(10)
    await engine.ask(1, 2)
    await engine.ask(2, 3, 1)
    assert engine.loader.decoded == ["image 1", "image 2", "image 3"]
    assert engine.sent == [2, 1]


async def test_a_request_that_is_never_sent_leaves_nothing_behind():
    engine = Engine(10)
    await engine.media([1])  # and refused, because of something else in it
    await engine.ask(1)


async def test_what_is_dropped_before_it_is_sent_is_decoded_after_all():
    engine = Engine(2)
    await engine.ask(1)
    late = await engine.media([1])
    await engine.ask(2)
    await engine.ask(3)
    assert await engine.send(late) == [1]
    assert engine.loader.decoded == ["image 1", "image 2", "image 3", "image 1"]


async def test_what_is_dropped_while_another_is_decoded_is_decoded_too():
    engine = Engine(2)
    await engine.ask(1)
    await engine.ask(2)
    late = await engine.media([1, 2])
    await engine.ask(3)  # in the place of 1
    seen, _ = await asyncio.gather(engine.send(late), engine.ask(4))  # in the place of 2
    assert seen == [1, 2]


async def test_media_that_do_not_fit_together_are_all_sent():
    """Each would make room for itself by dropping another one of the same request."""
    engine = Engine(2)
    await engine.ask(1)
    await engine.ask(2, 3, 1)
    assert engine.sent == [1, 3]


@pytest.mark.parametrize("images", [0, 1, 4, 9])
async def test_any_order_of_requests(images: int):
    """Many at once, some refused, with room for some of the images or none."""
    engine = Engine(images)
    chance = random.Random(images)

    async def request() -> None:
        numbers = [chance.randrange(12) for _ in range(chance.randrange(1, 5))]
        features = await engine.media(numbers)
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)
        if chance.random() < 0.8:
            assert await engine.send(features) == numbers

    for _ in range(150):
        async with asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(request())


async def test_media_that_are_kept_in_this_process_are_sent_again_without_decoding():
    """As with several API processes or engines."""
    engine = Engine(10, MultiModalProcessorOnlyCache)
    await engine.ask(1, 2)
    await engine.ask(2, 1)
    assert engine.loader.decoded == ["image 1", "image 2"]
    assert engine.sent == [2, 2]
