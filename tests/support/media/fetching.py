"""What the tests of fetching share."""

import pytest

from saccade.media.errors import FetchError, MediaError
from saccade.media.fetch.fetcher import FetchPolicy, MediaFetcher

BODY = bytes(range(256)) * 16  # 4096 bytes
OPEN = FetchPolicy(allow_private_addresses=True, read_timeout=5, total_timeout=10)


async def refusal(policy: FetchPolicy, url: str, error: type[MediaError] = FetchError) -> str:
    """The message with which ``url`` is refused under ``policy``."""
    fetcher = MediaFetcher(policy)
    try:
        with pytest.raises(error) as caught:
            await fetcher.fetch(url)
    finally:
        await fetcher.close()
    for leak in ("127.0.0", "0x", "object at", "Errno", "secret"):
        assert leak not in caught.value.message
    return caught.value.message
