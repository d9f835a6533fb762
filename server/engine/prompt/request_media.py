"""The media of a request on their way through vLLM's serving classes to our renderer.

vLLM's chat serving takes a medium as a URL, or by name alone. Ours go by name: their index among
those of the request, whose media the context of its task holds. So a request can name no other's
media, and vLLM has nothing to fetch.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn

from vllm import envs
from vllm.exceptions import VLLMValidationError
from vllm.multimodal.media import MEDIA_CONNECTOR_REGISTRY, MediaConnector

from saccade.media.items import EngineMedium
from saccade.server.core.metrics import MEDIA_HANDLES

_MEDIA: ContextVar[dict[str, EngineMedium] | None] = ContextVar("media", default=None)


@contextmanager
def request_media(media: list[EngineMedium]) -> Iterator[None]:
    """Within, `take_media` gives the request's media out; ``media`` is empty from then on.

    The pixels belong to whoever takes them: they are not kept while the answer is generated.
    """
    held = {str(index): medium for index, medium in enumerate(media)}
    media.clear()
    MEDIA_HANDLES.inc(len(held))
    token = _MEDIA.set(held)
    try:
        yield
    finally:
        _MEDIA.reset(token)
        for name in list(held):  # a thread of a cancelled request may still take some
            if held.pop(name, None) is not None:
                MEDIA_HANDLES.dec()


def take_media(names: Mapping[str, Sequence[str | None]]) -> dict[str, list[Any]]:
    """The media of the request at hand, by modality, in the order of ``names``; each once.

    Raises:
        VLLMValidationError: a name that is not one of the request's, or of another modality.
    """
    held = _MEDIA.get() or {}
    taken: dict[str, list[Any]] = {}
    for modality, group in names.items():
        media = [medium for name in group if name and (medium := held.pop(name, None))]
        MEDIA_HANDLES.dec(len(media))
        if len(media) < len(group) or any(medium.modality != modality for medium in media):
            _refuse()
        taken[modality] = media
    return taken


class ClosedConnector(MediaConnector):
    """Refuses every URL, so that vLLM fetches and decodes nothing by itself."""

    def load_from_url(self, url: str, *_: Any, **__: Any) -> Any:
        _refuse()

    async def load_from_url_async(self, url: str, *_: Any, **__: Any) -> Any:
        _refuse()


def close_connector() -> None:
    """Puts `ClosedConnector` in the place of the connector that vLLM would use."""
    MEDIA_CONNECTOR_REGISTRY.register(envs.VLLM_MEDIA_CONNECTOR)(ClosedConnector)


def _refuse() -> NoReturn:
    raise VLLMValidationError("media must go through the chat route", parameter="messages")
