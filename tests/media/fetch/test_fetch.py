"""Fetching from a real HTTP server: bounded, and clear about what went wrong."""

import asyncio
import socket
from pathlib import Path
from urllib.parse import quote

import pytest
from fetching import BODY, OPEN, refusal

from saccade.media.errors import LimitError
from saccade.media.fetch.fetcher import FetchPolicy, MediaFetcher


async def test_a_body_arrives_whole(fetcher: MediaFetcher, servers: tuple[str, str]) -> None:
    assert await fetcher.fetch(f"{servers[0]}/body") == BODY
    bodies = await asyncio.gather(*(fetcher.fetch(f"{servers[0]}/body?{n}") for n in range(20)))
    assert bodies == [BODY] * 20


async def test_what_comes_in_is_counted(fetcher: MediaFetcher, servers: tuple[str, str]) -> None:
    """And no more comes in once whoever counts has had enough."""
    counts: list[int] = []
    url = f"{servers[0]}/redirect?to=/body"
    assert await fetcher.fetch(url, counts.append) == BODY
    assert sum(counts) == len(BODY)

    def none(_: int) -> None:
        raise MemoryError("enough")

    with pytest.raises(MemoryError, match="enough"):
        await fetcher.fetch(url, none)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(
    status: int, fetcher: MediaFetcher, servers: tuple[str, str]
) -> None:
    first, second = servers
    target = quote(f"{second}/body?from={status}", safe="")
    assert await fetcher.fetch(f"{first}/redirect?status={status}&to={target}") == BODY
    assert await fetcher.fetch(f"{first}/redirect?status={status}&to=/body") == BODY


async def test_redirects_are_limited(servers: tuple[str, str]) -> None:
    assert "redirect" in await refusal(OPEN, f"{servers[0]}/loop")
    nested = f"{servers[0]}/body"
    for _ in range(3):
        nested = f"{servers[0]}/redirect?to={quote(nested, safe='')}"
    fetcher = MediaFetcher(OPEN)
    assert await fetcher.fetch(nested) == BODY
    await fetcher.close()
    nested = f"{servers[0]}/redirect?to={quote(nested, safe='')}"
    assert "redirect" in await refusal(OPEN, nested)


@pytest.mark.parametrize("to", ["FILE", "data:,x", "ftp://example.com/x"])
async def test_redirects_stay_on_http(to: str, servers: tuple[str, str], tmp_path: Path) -> None:
    """Though the caller's own URL might name the file."""
    file = tmp_path / "a.png"
    file.write_bytes(BODY)
    policy = FetchPolicy(allow_private_addresses=True, media_root=tmp_path)
    target = quote(to.replace("FILE", file.as_uri()), safe="")
    assert "redirect" in await refusal(policy, f"{servers[0]}/redirect?to={target}")


async def test_slow_servers_time_out(servers: tuple[str, str]) -> None:
    quick = FetchPolicy(allow_private_addresses=True, read_timeout=0.2, total_timeout=20)
    assert "sent nothing" in await refusal(quick, f"{servers[0]}/silent")
    whole = FetchPolicy(allow_private_addresses=True, read_timeout=10, total_timeout=0.4)
    assert "within 0.4 s" in await refusal(whole, f"{servers[0]}/dripping")


async def test_connecting_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full backlog neither accepts nor refuses; the name look-up counts as well."""
    policy = FetchPolicy(allow_private_addresses=True, connect_timeout=0.2)
    with socket.socket() as full, socket.socket() as taken:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        taken.connect(full.getsockname())
        taken.setblocking(False)
        url = f"http://127.0.0.1:{full.getsockname()[1]}/"
        assert "no connection" in await refusal(policy, url)

    async def stuck(*_: object, **__: object) -> list[object]:
        await asyncio.sleep(30)
        return []

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", stuck)
    assert "no connection" in await refusal(policy, "http://slow-name.example/")


async def test_too_much_is_refused(servers: tuple[str, str]) -> None:
    small = FetchPolicy(allow_private_addresses=True, max_bytes=4095)
    exact = FetchPolicy(allow_private_addresses=True, max_bytes=4096)
    for path in ("body", "chunked", "declaring"):
        assert "4095" in await refusal(small, f"{servers[0]}/{path}", LimitError)
    fetcher = MediaFetcher(exact)
    for path in ("body", "chunked"):
        assert await fetcher.fetch(f"{servers[0]}/{path}") == BODY
    await fetcher.close()


async def test_no_more_is_read_than_the_limit(servers: tuple[str, str]) -> None:
    """A piece beyond it is the last, and is not kept."""
    counts: list[int] = []
    fetcher = MediaFetcher(FetchPolicy(allow_private_addresses=True, max_bytes=2047))
    with pytest.raises(LimitError):
        await fetcher.fetch(f"{servers[0]}/chunked", counts.append)
    assert sum(counts) <= 2047
    await fetcher.close()


async def test_failures_are_told_apart(servers: tuple[str, str]) -> None:
    assert "404" in await refusal(OPEN, f"{servers[0]}/none")
    assert "302" in await refusal(OPEN, f"{servers[0]}/nowhere")
    assert "broke off" in await refusal(OPEN, f"{servers[0]}/short")
    assert "compressed" in await refusal(OPEN, f"{servers[0]}/packed")
    assert "failed" in await refusal(OPEN, f"{servers[0]}/garbage")
    assert "failed" in await refusal(OPEN, servers[0].replace("http", "https") + "/body")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        assert "failed" in await refusal(OPEN, f"http://127.0.0.1:{port}/")
    assert "does not resolve" in await refusal(OPEN, "http://no-such-host.invalid/")


@pytest.mark.parametrize(
    "url", ["ftp://example.com/x", "gopher://x", "saccade-media:1234", "javascript:1", "s3://b/k"]
)
async def test_unknown_schemes_are_refused(url: str) -> None:
    assert "not supported" in await refusal(OPEN, url)
