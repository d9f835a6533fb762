"""Downloads of the last minutes, so that what a conversation asks about again is not sent again.

As a shared cache of RFC 9111: an answer that is fresh by its own account is taken as it is, another
is revalidated, what its server does not want kept is not kept. Whose download it was is part of its
name, so that nobody learns what others have asked about.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from cachetools import TTLCache

_SECONDS = 600.0
_BESIDE_BODY = 1024  # bytes
_VALIDATORS = {"etag": "If-None-Match", "last-modified": "If-Modified-Since"}


@dataclass(frozen=True)
class Download:
    """A body that a server has sent.

    Attributes:
        conditions: headers of a request that asks whether it is still the same.
        fresh_until: until then nobody need ask, in seconds of the cache's clock.
    """

    data: bytes
    conditions: Mapping[str, str]
    fresh_until: float


class Downloads:
    """The downloads of one process, the last ones used; for one event loop.

    Args:
        max_bytes: of all of them; 0: none are kept.
        clock: seconds; for tests.
    """

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: TTLCache[tuple[str, str], Download] = TTLCache(
            max_bytes, _SECONDS, clock, lambda kept: len(kept.data) + _BESIDE_BODY
        )

    def find(self, owner: str, url: str) -> Download | None:
        """What this owner has downloaded from there."""
        return self._kept.get((owner, url))

    def is_fresh(self, download: Download) -> bool:
        """Whether it may be taken without asking."""
        return self._clock() < download.fresh_until

    def keep(
        self,
        owner: str,
        url: str,
        headers: Mapping[str, str],
        data: bytes,
        former: Download | None = None,
    ) -> None:
        """Keeps what has been downloaded, unless its server does not want that.

        Args:
            headers: of the answer; names in any case.
            former: what the answer (304) says is still the same.
        """
        self._kept.pop((owner, url), None)
        rules = _cache_control(headers.get("cache-control", ""))
        if rules.keys() & {"no-store", "private"} or headers.get("vary", "").strip() == "*":
            return
        conditions = dict(former.conditions) if former is not None else {}
        conditions |= {
            asks: headers[name]
            for name, asks in _VALIDATORS.items()
            if name in headers and headers[name].isascii()
        }
        seconds = 0.0 if "no-cache" in rules else _lifetime(headers, rules)
        fits = len(data) + _BESIDE_BODY <= self._kept.maxsize
        if fits and (conditions or seconds > 0):
            self._kept[owner, url] = Download(data, conditions, self._clock() + max(seconds, 0))


def _cache_control(header: str) -> dict[str, str]:
    rules = (rule.strip().partition("=") for rule in header.split(","))
    return {name.strip().lower(): value.strip(' "') for name, _, value in rules}


def _lifetime(headers: Mapping[str, str], rules: Mapping[str, str]) -> float:
    """Seconds that an answer says it is fresh for, as long as any is kept at most; 0 where it says
    nothing that is valid."""
    try:
        if (told := rules.get("s-maxage", rules.get("max-age"))) is not None:
            return min(int(told) - int(headers.get("age", 0)), _SECONDS)
        expires, sent = (parsedate_to_datetime(headers[name]) for name in ("expires", "date"))
        return min((expires - sent).total_seconds(), _SECONDS)
    except (KeyError, ValueError, TypeError, OverflowError):
        return 0.0
