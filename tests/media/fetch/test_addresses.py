"""Whom the fetcher dials: public hosts, allowed domains, and nobody in between."""

import asyncio
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import pytest
from fetching import BODY, OPEN, refusal
from media_server import Handler

from saccade.media.fetch import addresses
from saccade.media.fetch.fetcher import FetchPolicy, MediaFetcher

Resolve = Callable[..., None]
PRIVATE = ["127.0.0.1", "10.0.0.1", "169.254.1.1", "0.0.0.0", "::1", "fe80::1", "fd00::1"]


@pytest.fixture
async def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Sets what every name resolves to: ``resolve(addresses, addresses at the next look-up ...)``.

    A look-up for which nothing is left fails.
    """

    def answer(*answers: list[str]) -> None:
        left = list(answers)

        async def getaddrinfo(host: str, port: int, **_: object) -> list[object]:
            return [(0, socket.SOCK_STREAM, 6, "", (address, port)) for address in left.pop(0)]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)

    return answer


@pytest.fixture
async def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every address that a socket was opened to; none of them answers."""
    addresses: list[str] = []

    async def connect(_: object, address: tuple[str, int]) -> None:
        if address[0] not in addresses:  # the last is tried twice
            addresses.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", connect)
    return addresses


async def test_private_addresses_are_refused_by_default(servers: tuple[str, str]) -> None:
    port = urlsplit(servers[0]).port
    Handler.seen.clear()
    for host in ("127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.1.1", "[fd00::1]"):
        assert "not public" in await refusal(FetchPolicy(), f"http://{host}:{port}/body"), host
    assert Handler.seen == []


@pytest.mark.parametrize("private", PRIVATE)
async def test_addresses_are_judged_not_their_spelling(
    private: str, resolve: Resolve, dialled: list[str]
) -> None:
    """Whatever a name is and however it is written: what it resolves to counts."""
    for answer in ([private], ["93.184.216.34", private], [private, "93.184.216.34"]):
        resolve(answer)
        assert "not public" in await refusal(FetchPolicy(), "http://media.example/a.png")
    assert dialled == []
    resolve([private])
    await refusal(FetchPolicy(allow_private_addresses=True), "http://media.example/a.png")
    assert dialled == [private]


async def test_the_addresses_that_were_judged_are_dialled(
    resolve: Resolve, dialled: list[str]
) -> None:
    """None is looked up again, when the answer might be another."""
    resolve(["93.184.216.34", "2606:2800:220:1::1"], ["127.0.0.1"])
    assert "failed" in await refusal(FetchPolicy(), "http://media.example/a.png")
    assert dialled == ["93.184.216.34", "2606:2800:220:1::1"]


async def test_the_host_that_was_judged_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL is read once; nothing of its text is read again."""
    judged = httpx.URL("http://judged.example/")
    monkeypatch.setattr(MediaFetcher, "_checked_url", lambda *_: judged)
    asked: list[str] = []

    async def getaddrinfo(host: str, *_: object, **__: object) -> None:
        asked.append(host)
        raise OSError

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    await refusal(FetchPolicy(), "http://media.example/a.png")
    assert asked == ["judged.example"]


@pytest.mark.parametrize("error", [OSError, UnicodeError])
async def test_names_that_do_not_resolve(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def getaddrinfo(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    assert "does not resolve" in await refusal(FetchPolicy(), "http://media.example/a.png")


def only_second_server_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    real = addresses.is_public
    monkeypatch.setattr(addresses, "is_public", lambda ip: ip == "127.0.0.2" or real(ip))


async def test_a_redirect_to_a_private_address_is_refused(
    servers: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = servers
    only_second_server_is_public(monkeypatch)
    policy = FetchPolicy()
    fetcher = MediaFetcher(policy)
    assert await fetcher.fetch(f"{public}/body") == BODY
    await fetcher.close()
    Handler.seen.clear()
    target = quote(f"{private}/body", safe="")
    assert "not public" in await refusal(policy, f"{public}/redirect?to={target}")
    assert [entry.partition("?")[0] for entry in Handler.seen] == [
        f"{urlsplit(public).netloc}/redirect"
    ]


async def test_a_dead_address_is_followed_by_the_next(
    servers: tuple[str, str], resolve: Resolve
) -> None:
    resolve(["127.0.0.9", "127.0.0.1"])
    fetcher = MediaFetcher(OPEN)
    port = urlsplit(servers[0]).port
    assert await fetcher.fetch(f"http://two.example:{port}/body") == BODY
    await fetcher.close()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("255.255.255.255", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("192.0.2.1", False),
        ("::", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("::10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::5db8:d822", True),
        ("2002:a00:1::1", False),
        ("not an address", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert addresses.is_public(address) == public


async def test_proxies_of_the_environment_are_not_used(
    fetcher: MediaFetcher, servers: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, servers[1])
    Handler.seen.clear()
    assert await fetcher.fetch(f"{servers[0]}/body") == BODY
    assert Handler.seen == [f"{urlsplit(servers[0]).netloc}/body"]


async def test_allowed_domains(servers: tuple[str, str], resolve: Resolve) -> None:
    resolve(*[["127.0.0.1"]] * 4)
    port = urlsplit(servers[0]).port
    policy = FetchPolicy(allow_private_addresses=True, allowed_domains=("Pictures.example",))
    fetcher = MediaFetcher(policy)
    for host in ("pictures.example", "a.b.pictures.example", "PICTURES.EXAMPLE."):
        assert await fetcher.fetch(f"http://{host}:{port}/body") == BODY
    await fetcher.close()
    for host in ("otherpictures.example", "pictures.example.other.example", "127.0.0.1"):
        assert "allowed domains" in await refusal(policy, f"http://{host}:{port}/body")
    elsewhere = quote(f"http://other.example:{port}/body", safe="")
    hop = f"http://pictures.example:{port}/redirect?to={elsewhere}"
    assert "allowed domains" in await refusal(policy, hop)


@pytest.fixture
def own_certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for localhost that nobody else signed, and its key."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


async def test_certificates_are_verified(own_certificate: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*own_certificate)
    served = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert "failed" in await refusal(OPEN, f"https://localhost:{port}/")
    assert not served.is_set()
