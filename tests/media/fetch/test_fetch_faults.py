"""Faulty media servers, beyond `test_fetch.py`: each URL is fetched or refused in time."""

import asyncio
import gzip
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from child_path import SUPPORT_PATH
from fetching import BODY, OPEN, refusal

from saccade.media.errors import FetchError, MediaError
from saccade.media.fetch import addresses
from saccade.media.fetch.fetcher import FetchPolicy, MediaFetcher

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
GZIP = OK + b"Content-Encoding: gzip\r\n\r\n"


@asynccontextmanager
async def serving(answer: Answer, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """A server that reads a request's head and answers as told; its URL."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(reader, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, host, 0)
    try:
        yield f"http://{host}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def saying(*parts: bytes) -> Answer:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(parts))

    return answer


def slowly(first: bytes, again: bytes) -> Answer:
    """Three seconds long, a piece every twentieth of a second."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        for _ in range(60):
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(0.05)

    return answer


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Connections, files and threads of a test are gone with it."""

    def sockets() -> int:
        links = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
        return sum("socket:" in os.readlink(link) for link in links if os.path.lexists(link))

    before = sockets(), threading.active_count()
    yield
    deadline = time.monotonic() + 10
    while (sockets(), threading.active_count()) > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert sockets() <= before[0]
    # The loop's look-up threads end with the loop, which is this test's.
    assert threading.active_count() <= before[1] + (os.cpu_count() or 1) + 4


@pytest.mark.parametrize(
    "answer",
    [
        slowly(OK + b"Content-Length: 9000\r\n\r\n", b"."),
        slowly(OK, b"X: y\r\n"),
        slowly(CHUNKED, b"1\r\n.\r\n"),
    ],
    ids=["body", "head", "chunks"],
)
async def test_slow_servers(answer: Answer) -> None:
    """The whole counts: none is without a byte for long."""
    async with serving(answer) as url:
        assert "within 1 s" in await refusal(replace(OPEN, total_timeout=1), url)


@pytest.mark.parametrize(
    ("name", "answer", "told"),
    [
        ("long head", saying(OK, b"X: " + b"y" * 200_000 + b"\r\n\r\n", BODY), "broke off"),
        ("chunk size no number", saying(CHUNKED, b"zz\r\n."), "broke off"),
        ("length too long", saying(OK, b"Content-Length: 5000\r\n\r\n", BODY), "broke off"),
        ("length negative", saying(OK, b"Content-Length: -1\r\n\r\n", BODY), "broke off"),
        ("length no number", saying(OK, b"Content-Length: many\r\n\r\n", BODY), "broke off"),
        ("gzip", saying(GZIP, gzip.compress(BODY)), "compressed"),
        ("br", saying(OK, b"Content-Encoding: br\r\n\r\n", BODY), "compressed"),
        ("gzip in transfer", saying(OK, b"Transfer-Encoding: gzip\r\n\r\n", BODY), "compressed"),
        ("nothing", saying(), "broke off"),
        ("other protocol", saying(b"SSH-2.0-OpenSSH_9.6\r\n"), "broke off"),
        ("status of letters", saying(b"HTTP/1.1 abc OK\r\n\r\n"), "broke off"),
        ("partial", saying(b"HTTP/1.1 206 Partial\r\nContent-Length: 4\r\n\r\nabcd"), "206"),
    ],
)  # fmt: skip
async def test_faulty_servers(name: str, answer: Answer, told: str) -> None:
    async with serving(answer) as url:
        assert told in await refusal(OPEN, url), name


async def test_the_rest_after_a_length_is_not_taken_for_an_answer() -> None:
    """What comes with the body breaks the answer; what comes later is not waited for."""
    rest = OK + b"Content-Length: 4\r\n\r\nrest"
    head = OK + b"Content-Length: 16\r\n\r\n" + BODY[:16]
    async with serving(saying(head, BODY)) as url:
        assert "broke off" in await refusal(OPEN, url)

    async def later(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        await writer.drain()
        await asyncio.sleep(0.2)
        writer.write(rest)

    async with serving(later) as url:
        fetcher = MediaFetcher(OPEN)
        assert await fetcher.fetch(url) == BODY[:16]
        await asyncio.sleep(0.4)
        assert await fetcher.fetch(url) == BODY[:16]
        await fetcher.close()


@pytest.mark.parametrize(
    "to",
    [
        "//127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://127.0.0.1:{port}/",
        "http://[::1]:{port}/",
        "http://10.0.0.1:{port}/",
        "http://169.254.1.1:{port}/",
        "http://user@media.example/",
        "http://media.example:port/",
        "file:///a.png",
        "ftp://media.example/a.png",
        "data:,x",
    ],
)
async def test_a_redirect_cannot_reach_inside(to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a server that counts as public, at the end of a chain, towards one that does not."""
    real = addresses.is_public
    monkeypatch.setattr(addresses, "is_public", lambda ip: ip == "127.0.0.2" or real(ip))
    reached = []

    async def private(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(to)
        writer.write(OK + b"\r\n" + BODY)

    async with serving(private) as inside:
        target = to.format(port=urlsplit(inside).port).encode()
        hops = 0

        async def public(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal hops
            hops += 1
            place = b"/again" if hops == 1 else target
            writer.write(b"HTTP/1.1 302 Found\r\nLocation: " + place + b"\r\nContent-Length: 0\r\n")
            writer.write(b"Connection: close\r\n\r\n")

        async with serving(public, "127.0.0.2") as outside:
            await refusal(FetchPolicy(connect_timeout=5, total_timeout=20), outside)
    assert hops == 2
    assert reached == []


def test_a_rebinding_name_is_looked_up_once_a_dial() -> None:
    """A name that is public first and private ever after, through the machine's own resolver.

    The first answer is dialled although the second would be another; a redirect that needs a new
    connection asks anew and is refused.
    """
    alone = ["unshare", "--map-root-user", "--mount", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode != 0:
        pytest.skip("no network of its own can be made here")
    child = Path(__file__).parents[2] / "support/bad_media/rebinding_child.py"
    ran = subprocess.run(
        [*alone, sys.executable, str(child)],
        env=os.environ | {"PYTHONPATH": SUPPORT_PATH},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    seen = json.loads(ran.stdout)
    assert "not public" in seen["message"]
    assert seen["reached"] == ["public"]
    assert seen["asked"] == ["rebinding.example."] * 2


@pytest.mark.parametrize(
    ("url", "told"),
    [
        *((url, "must name a host") for url in ("http://", "http:///body", "http://:80/")),
        ("http://user@127.0.0.1/", "must name a host and no user"),
        ("http://user:word@127.0.0.1/", "must name a host and no user"),
        ("http://media.example:99999/", "port of the URL is out of range"),
        ("http://media.example:port/", "malformed"),
        ("https://exa mple.com/", "does not resolve"),
        ("http://[fe80::1%eth0]/", "the URL is malformed"),
        ("http://" + "a" * 300 + ".example/", "does not resolve"),
        ("\ud800", "malformed"),  # JSON can spell half of a surrogate pair
        ("media.example/a.png", "no URL"),
    ],
)
async def test_odd_urls_are_refused(url: str, told: str) -> None:
    policy = FetchPolicy(allow_private_addresses=True, connect_timeout=2, total_timeout=5)
    assert told in await refusal(policy, url, FetchError)


@pytest.mark.parametrize("error", [httpx.InvalidURL, UnicodeError])
async def test_urls_that_httpx_cannot_read_are_malformed(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise error("secret")

    monkeypatch.setattr(httpx, "URL", fail)
    assert "the URL is malformed" in await refusal(FetchPolicy(), "http://media.example/")


async def test_a_fetcher_serves_on_after_faults() -> None:
    large = saying(OK, b"\r\n", BODY * 20)
    async with serving(large) as bad, serving(saying(OK, b"\r\n", BODY)) as good:
        fetcher = MediaFetcher(replace(OPEN, max_bytes=50_000, max_connections=2))
        for _ in range(20):
            with pytest.raises(MediaError):
                await fetcher.fetch(bad)
        bodies = await asyncio.gather(*(fetcher.fetch(good) for _ in range(8)))
        assert bodies == [BODY] * 8
        await fetcher.close()


async def test_many_hosts_leave_few_connections_open() -> None:
    held: set[asyncio.StreamWriter] = set()

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.add(writer)
        writer.write(OK + b"Content-Length: 1\r\n\r\n.")
        await reader.read()  # until the client closes it
        held.discard(writer)

    fetcher = MediaFetcher(replace(OPEN, max_connections=2))
    async with AsyncExitStack() as servers:
        for _ in range(6):
            assert await fetcher.fetch(await servers.enter_async_context(serving(keep))) == b"."
        await asyncio.sleep(0.1)
        assert 1 <= len(held) <= 2
        await fetcher.close()
