"""Where vLLM takes media from: the handles of those that are loaded."""

from typing import Any

from vllm.exceptions import VLLMValidationError
from vllm.multimodal.media import MEDIA_CONNECTOR_REGISTRY, MediaConnector

from saccade.media.items import DecodedImage, DecodedVideo
from saccade.server.engine.handles import MediaHandles, UnknownHandle

CONNECTOR = "saccade"
"""Its name for vLLM."""


def register_connector(handles: MediaHandles) -> None:
    """Makes vLLM take media from ``handles`` and from nowhere else."""

    class HandleConnector(MediaConnector):
        def fetch_image(self, image_url: str, **_: Any) -> DecodedImage:
            return _redeem(handles, image_url, DecodedImage)

        def fetch_video(self, video_url: str, **_: Any) -> DecodedVideo:
            return _redeem(handles, video_url, DecodedVideo)

        async def fetch_image_async(self, image_url: str, **_: Any) -> DecodedImage:
            return self.fetch_image(image_url)

        async def fetch_video_async(self, video_url: str, **_: Any) -> DecodedVideo:
            return self.fetch_video(video_url)

        async def load_from_url_async(self, url: str, *_: Any, **__: Any) -> Any:
            raise _unknown_media(url)

        def load_from_url(self, url: str, *_: Any, **__: Any) -> Any:
            raise _unknown_media(url)

    MEDIA_CONNECTOR_REGISTRY.register(CONNECTOR)(HandleConnector)


def _redeem(handles: MediaHandles, url: str, kind: type[Any]) -> Any:
    try:
        medium = handles.redeem(url)
    except UnknownHandle:
        raise _unknown_media(url) from None
    if not isinstance(medium, kind):
        raise _unknown_media(url)
    return medium


def _unknown_media(_: str) -> VLLMValidationError:
    return VLLMValidationError("media must go through the chat route", parameter="messages")
