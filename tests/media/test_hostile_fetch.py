"""Media servers that mean harm, beyond `test_fetch.py`: each URL is fetched or refused in time."""

import asyncio
import gzip
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fetching import BODY, OPEN, refusal

from saccade.media import addresses
from saccade.media.errors import FetchError, LimitError, MediaError
from saccade.media.fetch import FetchPolicy, MediaFetcher

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
GZIP = OK + b"Content-Encoding: gzip\r\n\r\n"
TWO_LENGTHS = OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n"
LONG_LENGTH = OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n"
QUICK = FetchPolicy(
    allow_private_addresses=True, read_timeout=5, total_timeout=1, max_bytes=100_000
)


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


def repeating(first: bytes, again: bytes, pause: float = 0.0) -> Answer:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(pause)

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
    ("name", "answer", "told"),
    [
        ("drip", repeating(OK + b"Content-Length: 90000\r\n\r\n", b".", 0.05), "within 1 s"),
        ("dripping head", repeating(OK, b"X: y\r\n", 0.05), "within 1 s"),
        ("endless 100", repeating(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01), "within 1 s"),
        ("endless head", repeating(OK, b"X: " + b"y" * 9000 + b"\r\n"), "broke off"),
        ("head without lines", repeating(b"", b"y" * 9000), "broke off"),
        ("chunks of no size", repeating(CHUNKED, b"0001\r\n.\r\n", 0.05), "within 1 s"),
        ("chunk of any size", saying(CHUNKED, b"f" * 40 + b"\r\n."), "broke off"),
        ("chunk size no number", saying(CHUNKED, b"zz\r\n."), "broke off"),
        ("length too long", saying(OK, b"Content-Length: 5000\r\n\r\n", BODY), "broke off"),
        ("length negative", saying(OK, b"Content-Length: -1\r\n\r\n", BODY), "broke off"),
        ("length no number", saying(OK, b"Content-Length: many\r\n\r\n", BODY), "broke off"),
        ("two lengths", saying(TWO_LENGTHS, BODY), "broke off"),
        ("length of 5000 digits", saying(LONG_LENGTH), "broke off"),
        ("gzip bomb", saying(GZIP, gzip.compress(bytes(10**8))), "compressed"),
        ("br", saying(OK, b"Content-Encoding: br\r\n\r\n", BODY), "compressed"),
        ("gzip in transfer", saying(OK, b"Transfer-Encoding: gzip\r\n\r\n", BODY), "broke off"),
        ("nothing", saying(), "broke off"),
        ("other protocol", saying(b"SSH-2.0-OpenSSH_9.6\r\n"), "broke off"),
        ("status of letters", saying(b"HTTP/1.1 abc OK\r\n\r\n"), "broke off"),
        ("partial", saying(b"HTTP/1.1 206 Partial\r\nContent-Length: 4\r\n\r\nabcd"), "206"),
    ],
)  # fmt: skip
async def test_servers_that_mean_harm(name: str, answer: Answer, told: str) -> None:
    async with serving(answer) as url:
        start = time.monotonic()
        assert told in await refusal(QUICK, url), name
        assert time.monotonic() - start < 20


async def test_a_length_shorter_than_the_body_ends_it() -> None:
    async with serving(saying(OK, b"Content-Length: 16\r\n\r\n", BODY)) as url:
        fetcher = MediaFetcher(OPEN)
        assert await fetcher.fetch(url) == BODY[:16]
        assert await fetcher.fetch(url) == BODY[:16]  # the rest is not taken for an answer
        await fetcher.close()


@pytest.mark.parametrize("framing", [b"", b"Content-Length: 99999999\r\n"])
async def test_endless_bodies_stop_at_the_cap(framing: bytes) -> None:
    sent = 0

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(OK + framing + b"\r\n")
        while True:
            writer.write(b"." * 10_000)
            await writer.drain()
            sent += 10_000
            await asyncio.sleep(0)

    async with serving(answer) as url:
        await refusal(QUICK, url, LimitError)
    # The cap, and what sockets of both sides may hold; a declared length is refused unread.
    assert sent < 20_000_000


@pytest.mark.parametrize(
    "to",
    [
        "//127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://0177.0.0.1:{port}/",
        "http://017700000001:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f000001:{port}/",
        "http://127.1:{port}/",
        "http://127.0.0.1.:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://[::ffff:7f00:1]:{port}/",
        "http://[::127.0.0.1]:{port}/",
        "http://[64:ff9b::7f00:1]:{port}/",
        "http://[2002:7f00:1::]:{port}/",
        "http://0:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://user@127.0.0.1:{port}/",
        "http://public@127.0.0.1:{port}/",
        "http://127.0.0.1:{port}\\@public.example/",
        "http://①②⑦.⓪.⓪.①:{port}/",
        "file:///etc/passwd",
        "ftp://127.0.0.1:{port}/",
        "gopher://127.0.0.1:{port}/_GET",
        "data:,x",
        "javascript:1",
        "unix:/run/docker.sock",
        "http://xn--/",
        "http://[::1",
        "http://[::1]:{port}/",
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
    child = Path(__file__).parents[1] / "support" / "rebinding_child.py"
    ran = subprocess.run([*alone, sys.executable, str(child)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    seen = json.loads(ran.stdout)
    assert "not public" in seen["message"]
    assert seen["reached"] == ["public"]
    assert seen["asked"] == ["rebinding.example."] * 2


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///body",
        "http://:80/",
        "http://host:99999/",
        "http://user@127.0.0.1/",
        "http://user:word@127.0.0.1/",
        "http://[::1/body",
        "http://\x00/",
        "https://exa mple.com/",
        "http://127.0.0.1\\@example.com/",
        "http://xn--/",
        "http://xn--a.com/",
        "http://xn--zzzzzz---/",
        "http://a.xn--.com/",
        "http://h/\ud800",
        "http://\udfff/",
        "data:,\ud800",
        "data:;base64,\ud800",
        "file:\ud800",
        "\ud800",
        "http://" + "a" * 300 + "/",
        "http://" + "a." * 3000 + "/",
        "http://h/" + "x" * 70_000,
        "http://h:٣/",
        "http://h:-1/",
        "http://127.0.0.1%00.example.invalid/",
        "http://127.0.0.1/\r\nHost: inside",
        "http://[fe80::1%25lo]/",
        "http://[v1.x]/",
        "http://.../",
        "http:127.0.0.1",
        "http:\\\\127.0.0.1\\",
        "http://%31%32%37.0.0.1/",
    ],
)
async def test_odd_urls_are_refused(url: str) -> None:
    await refusal(FetchPolicy(connect_timeout=2, total_timeout=5), url, FetchError)


async def test_a_fetcher_serves_on_after_harm() -> None:
    harm = repeating(OK + b"\r\n", b"." * 10_000)
    async with serving(harm) as bad, serving(saying(OK, b"\r\n", BODY)) as good:
        fetcher = MediaFetcher(replace(OPEN, max_bytes=50_000, max_connections=2))
        for _ in range(20):
            with pytest.raises(MediaError):
                await fetcher.fetch(bad)
        bodies = await asyncio.gather(*(fetcher.fetch(good) for _ in range(8)))
        assert bodies == [BODY] * 8
        await fetcher.close()
