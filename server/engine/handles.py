"""Names for prepared media inside this process.

vLLM's chat serving takes a medium only as a URL. What we fetched and decoded ourselves passes
through it under a handle: unguessable, good for one use, known to no other process.
"""

import secrets

from saccade.media.items import DecodedImage, DecodedVideo
from saccade.server.core.metrics import MEDIA_HANDLES

Medium = DecodedImage | DecodedVideo

_SCHEME = "saccade-media:"


class UnknownHandle(Exception):
    """Not a handle of this process, or one that is used up."""


class MediaHandles:
    """The media that wait to be picked up by the engine's side of this process."""

    def __init__(self) -> None:
        self._media: dict[str, Medium] = {}

    def issue(self, medium: Medium) -> str:
        """A new URL that stands for ``medium`` until it is redeemed or revoked."""
        url = _SCHEME + secrets.token_urlsafe(32)
        self._media[url] = medium
        MEDIA_HANDLES.inc()
        return url

    def redeem(self, url: str) -> Medium:
        """The medium behind ``url``, once.

        Raises:
            UnknownHandle: never issued, already redeemed, or revoked.
        """
        medium = self._media.pop(url, None)
        if medium is None:
            raise UnknownHandle
        MEDIA_HANDLES.dec()
        return medium

    def revoke(self, url: str) -> None:
        """Forgets ``url`` if it was not redeemed."""
        if self._media.pop(url, None) is not None:
            MEDIA_HANDLES.dec()
