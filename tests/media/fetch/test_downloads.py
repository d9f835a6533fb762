"""URLs that are asked about again: taken as they were, revalidated or downloaded, as HTTP says."""

from urllib.parse import urlencode

import pytest
from fetching import BODY, OPEN
from media_server import Handler

from saccade.media.errors import LimitError
from saccade.media.fetch.downloads import Downloads
from saccade.media.fetch.fetcher import FetchPolicy, MediaFetcher

DATE = "Mon, 30 Nov 2026 10:00:00 GMT"
LATER = "Mon, 30 Nov 2026 10:01:00 GMT"
REVALIDATED = [200, 304, 304]


@pytest.fixture
def kept(fetcher: MediaFetcher, servers: tuple[str, str]):
    """The statuses of three fetches of a URL whose answer has these headers."""

    async def ask(owners: str = "aaa", **headers: str) -> list[int]:
        url = f"{servers[0]}/kept?" + urlencode({"of": "x", **headers})
        Handler.statuses.clear()
        for owner in owners:
            assert await fetcher.fetch(url, owner=owner) == BODY + b"x"
        return list(Handler.statuses)

    return ask


async def test_what_has_a_validator_is_revalidated(kept) -> None:
    assert await kept(ETag='"1"') == REVALIDATED
    assert await kept(**{"ETag": 'W/"2"', "Last-Modified": DATE}) == REVALIDATED
    assert await kept(**{"Last-Modified": DATE}) == REVALIDATED
    assert await kept(**{"ETag": '"3"', "Cache-Control": "no-cache, max-age=60"}) == REVALIDATED
    assert await kept(ETag='"4"', Cache_Control="max-age=60", Age="60") == REVALIDATED


async def test_what_is_fresh_is_not_asked_for(kept) -> None:
    assert await kept(Cache_Control="public, MAX-AGE=60") == [200]
    assert await kept(Cache_Control='max-age=0, s-maxage="60"') == [200]


@pytest.mark.parametrize("rule", ["no-store", "private", "Private, max-age=60", 'private="x"'])
async def test_what_is_not_to_be_kept_is_not(kept, rule: str) -> None:
    assert await kept(ETag='"1"', Cache_Control=rule) == [200, 200, 200]


async def test_what_cannot_be_revalidated_is_downloaded(kept) -> None:
    assert await kept() == [200, 200, 200]
    assert await kept(Cache_Control="max-age=soon") == [200, 200, 200]
    assert await kept(ETag='"1"', Vary="*") == [200, 200, 200]


async def test_owners_share_nothing(kept) -> None:
    assert await kept("aba", ETag='"1"') == [200, 200, 304]
    assert await kept("aab", Cache_Control="max-age=60") == [200, 200]


async def test_what_is_taken_again_counts_as_if_it_came(
    fetcher: MediaFetcher, servers: tuple[str, str]
) -> None:
    for header in ("ETag=1", "Cache-Control=max-age%3D60"):
        counts: list[int] = []
        for _ in range(2):
            await fetcher.fetch(f"{servers[0]}/kept?of=x&{header}", counts.append)
        assert sum(counts) == 2 * (len(BODY) + 1)


async def test_a_smaller_limit_keeps_less(servers: tuple[str, str]) -> None:
    url = f"{servers[0]}/kept?of=x&ETag=1"
    for most, statuses in ((0, [200, 200]), (5000, [200, 200]), (6000, [200, 304])):
        fetcher = MediaFetcher(FetchPolicy(allow_private_addresses=True, max_kept_bytes=most))
        Handler.statuses.clear()
        for _ in range(2):
            await fetcher.fetch(url)
        assert Handler.statuses == statuses
        await fetcher.close()
    assert OPEN.max_kept_bytes > 0


async def test_another_body_of_the_same_name_has_the_same_limit(servers: tuple[str, str]) -> None:
    policy = FetchPolicy(allow_private_addresses=True, max_bytes=len(BODY) + 1)
    fetcher = MediaFetcher(policy)
    url = f"{servers[0]}/kept?of=xy&ETag=2"
    fetcher._downloads.keep("", url, {"etag": "1"}, b"older")
    with pytest.raises(LimitError):
        await fetcher.fetch(url)
    await fetcher.close()


def test_the_last_ones_are_kept_for_some_minutes() -> None:
    now = 0.0
    downloads = Downloads(5000, lambda: now)
    rules = {"etag": "1", "cache-control": "max-age=1000000"}
    for name in ("a", "b", "a", "c"):
        if downloads.find("", name) is None:
            downloads.keep("", name, rules, b" " * 1000)
    assert [downloads.find("", name) is not None for name in "abc"] == [True, False, True]
    now = 599.0
    kept = downloads.find("", "a")
    assert kept is not None
    assert downloads.is_fresh(kept)
    now = 601.0
    assert downloads.find("", "a") is None


@pytest.mark.parametrize(
    "headers",
    [
        {"cache-control": f"max-age={10**400}"},
        {"cache-control": "max-age=1", "age": str(10**400)},
        {"cache-control": "max-age=-5"},
        {"date": DATE, "expires": f"Mon, 30 Nov {10**30} 10:00:00 GMT"},
        {"last-modified": "\udcff"},
    ],
)
def test_whatever_numbers_and_letters_a_server_sends(headers: dict[str, str]) -> None:
    downloads = Downloads(10_000, lambda: 5.0)
    downloads.keep("", "a", {"etag": "1", **headers}, b"")
    kept = downloads.find("", "a")
    assert kept is not None
    assert kept.conditions == {"If-None-Match": "1"}
    assert 5 <= kept.fresh_until <= 605


def test_dates_tell_how_long_an_answer_is_fresh() -> None:
    downloads = Downloads(10_000, lambda: 0.0)
    for name, headers, seconds in (
        ("a", {"date": DATE, "expires": LATER}, 60),
        ("b", {"date": DATE, "expires": LATER, "cache-control": "max-age=10"}, 10),
        ("c", {"etag": "1", "date": DATE, "expires": "0"}, 0),
        ("d", {"etag": "1", "expires": LATER}, 0),
    ):
        downloads.keep("", name, headers, b"")
        kept = downloads.find("", name)
        assert kept is not None
        assert kept.fresh_until == seconds
