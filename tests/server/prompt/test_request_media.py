"""The media of a request between its decoding and the renderer; and that vLLM takes no others."""

import asyncio
from contextvars import copy_context

import numpy as np
import pytest
from vllm import envs
from vllm.exceptions import VLLMValidationError
from vllm.multimodal.media import MEDIA_CONNECTOR_REGISTRY

from saccade.media.items import DecodedImage
from saccade.media.planning.plan import ImagePlan
from saccade.server.core.metrics import MEDIA_HANDLES
from saccade.server.engine.prompt.request_media import close_connector, request_media, take_media


def image() -> DecodedImage:
    plan = ImagePlan(28, 28, 28, 28, (1, 2, 2), 1)
    return DecodedImage(np.zeros((28, 28, 3), np.uint8), plan, "digest")


def refused(names):
    with pytest.raises(VLLMValidationError, match="chat route"):
        take_media(names)


def test_each_medium_is_taken_once_and_kept_by_nobody_else():
    first, second = image(), image()
    media = [first, second]
    with request_media(media):
        assert media == []
        assert take_media({"image": ["1", "0"]}) == {"image": [second, first]}
        refused({"image": ["0"]})
    assert MEDIA_HANDLES._value.get() == 0


@pytest.mark.parametrize("names", [{"image": ["1"]}, {"image": [None]}, {"video": ["0"]}])
def test_other_names_and_modalities_are_refused(names):
    with request_media([image()]):
        refused(names)
    assert MEDIA_HANDLES._value.get() == 0


def test_nothing_is_left_once_the_request_has_ended():
    with request_media([image()]):
        context = copy_context()
    context.run(refused, {"image": ["0"]})
    refused({"image": ["0"]})
    assert MEDIA_HANDLES._value.get() == 0


async def test_requests_see_their_own_media_alone():
    async def one() -> None:
        mine = image()
        with request_media([mine]):
            await asyncio.sleep(0)
            in_thread = copy_context().run
            taken = await asyncio.to_thread(in_thread, take_media, {"image": ["0"]})
            assert taken["image"][0] is mine

    await asyncio.gather(*(one() for _ in range(20)))
    refused({"image": ["0"]})


async def test_vllm_fetches_nothing(monkeypatch):
    classes = dict(MEDIA_CONNECTOR_REGISTRY.name2class)
    monkeypatch.setattr(MEDIA_CONNECTOR_REGISTRY, "name2class", classes)
    close_connector()
    connector = MEDIA_CONNECTOR_REGISTRY.load(envs.VLLM_MEDIA_CONNECTOR)
    urls = ("saccade-media:forged", "data:image/png;base64,AAAA", "file:///a.png", "http://[::1]/")
    for url in urls:
        for fetch in (connector.fetch_image, connector.fetch_video, connector.fetch_audio):
            with pytest.raises(VLLMValidationError, match="chat route"):
                fetch(url)
        for fetch in (
            connector.fetch_image_async,
            connector.fetch_video_async,
            connector.fetch_audio_async,
        ):
            with pytest.raises(VLLMValidationError, match="chat route"):
                await fetch(url)
