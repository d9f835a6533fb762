"""The engine's cache of media: what it has is neither decoded nor sent again.

vLLM keeps in the API process a list of what the engine's process has, in the same order and of the
same size, and so has to change it in the order in which requests reach the engine. Its own renderer
changes it when a prompt is rendered. A request that is refused after that, or overtaken, leaves a
list of media that the engine never got, or has dropped; the next request about one of them fails.
Here the list changes in the moment in which a request is sent. A hook of `EngineCoreClient` for it
would make this replacement of ``add_request_async`` unnecessary. Checked on vLLM 0.32.0.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from cachetools import LRUCache
from vllm.multimodal.cache import BaseMultiModalProcessorCache
from vllm.multimodal.cache.base import MultiModalCache
from vllm.multimodal.inputs import MultiModalFeatureSpec
from vllm.renderers.base import BaseRenderer
from vllm.utils.mem_constants import GiB_bytes
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.core_client import EngineCoreClient

from saccade.media.items import CachedMedium, DecodedMedium, PlannedMedium, PlannedVideo
from saccade.media.loader import MediaLoader
from saccade.media.planning.plan import VideoPlan
from saccade.model.compat.engine_input import CachedItem, engine_item

_BESIDE_PIXELS = 256  # bytes of an item
_VIDEOS = 256  # whose plans are kept, at most some 100 KB each


class MediaCache:
    """Which media the engine has, as far as this API process knows.

    None with ``--mm-processor-cache-gb 0``. Where several processes share engines vLLM keeps the
    media themselves in each API process: then they are sent again, but not decoded.

    Args:
        renderer: has vLLM's list of what the engine has.
    """

    def __init__(self, renderer: BaseRenderer[Any]) -> None:
        self._renderer = renderer
        self._cache = renderer.mm_processor_cache
        multimodal = renderer.model_config.get_multimodal_config()
        self._capacity = multimodal.mm_processor_cache_gb * GiB_bytes
        self._plans: LRUCache[str, VideoPlan] = LRUCache(_VIDEOS)

    def lead_requests_through(self, core: EngineCoreClient) -> None:
        """From now on every request to the engine passes `take_cached_out`."""
        send = core.add_request_async

        async def add_request(request: EngineCoreRequest) -> None:
            await self.take_cached_out(request)
            await send(request)

        core.add_request_async = add_request

    def has(self, medium: PlannedMedium) -> bool:
        """Whether the engine has what would come of it."""
        if self._cache is None or not self._cache.is_cached_item(medium.digest):
            return False
        return not isinstance(medium, PlannedVideo) or medium.digest in self._plans

    def held_bytes(self, medium: PlannedMedium) -> int:
        """Of memory, until the engine has it."""
        return medium.encoded_bytes if self.has(medium) else medium.held_bytes

    def find(self, medium: PlannedMedium, loader: MediaLoader) -> CachedMedium | None:
        """What is sent in its place, if the engine has it."""
        if not self.has(medium):
            return None
        plan = self._plans[medium.digest] if isinstance(medium, PlannedVideo) else medium.plan
        decode = partial(loader.decode, medium)
        return CachedMedium(medium.modality, plan, medium.digest, medium.sideways, decode)

    def remember(self, medium: DecodedMedium) -> None:
        """Keeps what decoding has found."""
        if isinstance(medium.plan, VideoPlan):
            self._plans[medium.digest] = medium.plan

    async def take_cached_out(self, request: EngineCoreRequest) -> None:
        """Leaves in a request what the engine does not have. It is to be sent at once.

        Raises:
            MediaError: one of the media had to be decoded after all, and could not.
        """
        if request.mm_features and self._cache is not None:
            features = await self._decode_dropped(self._cache, request.mm_features)
            request.mm_features = _through_cache(self._cache, features)
            self._renderer.update_mm_cache_stats()

    async def _decode_dropped(
        self, cache: BaseMultiModalProcessorCache, features: Sequence[MultiModalFeatureSpec]
    ) -> list[MultiModalFeatureSpec]:
        """With those media decoded that the cache has dropped since they were looked for.

        And with all, where the cache cannot hold the media of this request together: those that are
        added would make it drop those that it has.
        """
        decoded = list(features)
        too_many = sum(map(_size, decoded)) > self._capacity
        while dropped := [
            index
            for index, feature in enumerate(decoded)
            if isinstance(feature.data, CachedItem)
            and (too_many or not cache.is_cached_item(_key(feature)))
        ]:
            for index in dropped:  # meanwhile, others may be
                item = decoded[index].data
                assert isinstance(item, CachedItem)
                medium = await item.medium.decode()
                decoded[index] = replace(decoded[index], data=engine_item(medium))
        return decoded


def _through_cache(
    cache: BaseMultiModalProcessorCache, features: Sequence[MultiModalFeatureSpec]
) -> list[MultiModalFeatureSpec]:
    """What is sent of the media: nothing of those that the engine has."""
    sent = []
    try:
        # Before any is added: none of this request's is to make room for another. The engine does
        # the same.
        for feature in features:
            cache.touch_sender_cache_item(_key(feature))
        for feature in features:
            item = feature.data
            # Beside it vLLM keeps how the prompt is to be changed: here, the plan says so.
            known = item is None or isinstance(item, CachedItem)
            item, _ = cache.get_and_update_item(None if known else (item, []), _key(feature))
            sent.append(replace(feature, data=item))
    finally:
        cache.release_sender_touches()
    return sent


def _key(feature: MultiModalFeatureSpec) -> str:
    return feature.mm_hash or feature.identifier


def _size(feature: MultiModalFeatureSpec) -> int:
    """In bytes, as the cache counts them, or a little more."""
    item = feature.data
    if isinstance(item, CachedItem):
        return _BESIDE_PIXELS + item.medium.plan.decoded_bytes
    return MultiModalCache.get_item_size(item) if item else 0
