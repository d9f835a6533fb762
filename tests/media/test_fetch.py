"""Fetching, against a real HTTP server: closed by default, bounded, clear about what went wrong."""

import asyncio
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from fetching import BODY, OPEN, refusal

from saccade.media import addresses
from saccade.media.errors import LimitError
from saccade.media.fetch import FetchPolicy, MediaFetcher


class Handler(BaseHTTPRequestHandler):
    """The ways in which a media server can answer."""

    protocol_version = "HTTP/1.1"
    ended = threading.Event()
    seen: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.seen.append(self.headers["Host"] + self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        getattr(self, url.path.strip("/"), self.absent)(query)

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def absent(self, _: dict[str, str]) -> None:
        self.answer(404, b"secret text of the inner server")

    def body(self, _: dict[str, str]) -> None:
        self.answer(200, BODY)

    def redirect(self, query: dict[str, str]) -> None:
        self.answer(int(query.get("status", "302")), Location=query["to"])

    def loop(self, _: dict[str, str]) -> None:
        self.answer(302, Location="/loop")

    def nowhere(self, _: dict[str, str]) -> None:
        self.answer(302)

    def silent(self, _: dict[str, str]) -> None:
        self.ended.wait(30)

    def dripping(self, _: dict[str, str]) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        while not self.ended.wait(0.05):
            try:
                self.wfile.write(b".")
            except OSError:
                return

    def endless(self, _: dict[str, str]) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while not self.ended.is_set():
                self.wfile.write(b"400\r\n" + b"." * 1024 + b"\r\n")
        except OSError:
            self.close_connection = True

    def boasting(self, _: dict[str, str]) -> None:
        """Declares more than it may send, and then sends nothing."""
        self.send_response(200)
        self.send_header("Content-Length", str(10**12))
        self.end_headers()
        self.ended.wait(30)

    def short(self, _: dict[str, str]) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5000")
        self.end_headers()
        self.wfile.write(BODY)
        self.close_connection = True

    def packed(self, _: dict[str, str]) -> None:
        self.answer(200, b"\x1f\x8b", Content_Encoding="gzip")

    def garbage(self, _: dict[str, str]) -> None:
        self.wfile.write(b"what is HTTP?\r\n\r\n")
        self.close_connection = True


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[str, str]]:
    """Two servers on two loopback addresses; one can play the part of the open internet."""
    Handler.ended.clear()
    running = [ThreadingHTTPServer((host, 0), Handler) for host in ("127.0.0.1", "127.0.0.2")]
    for server in running:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
    first, second = (f"http://{s.server_address[0]}:{s.server_port}" for s in running)
    yield first, second
    Handler.ended.set()
    for server in running:
        server.shutdown()
        server.server_close()


async def test_a_body_arrives_whole(fetcher: MediaFetcher, servers: tuple[str, str]) -> None:
    assert await fetcher.fetch(f"{servers[0]}/body") == BODY
    bodies = await asyncio.gather(*(fetcher.fetch(f"{servers[0]}/body?{n}") for n in range(20)))
    assert bodies == [BODY] * 20


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


@pytest.mark.parametrize("to", ["file:///etc/passwd", "data:,x", "ftp://example.com/x"])
async def test_redirects_stay_on_http(to: str, servers: tuple[str, str]) -> None:
    policy = FetchPolicy(allow_private_addresses=True, media_root=Path("/"))
    assert "redirect" in await refusal(policy, f"{servers[0]}/redirect?to={quote(to, safe='')}")


async def test_private_addresses_are_refused_by_default(servers: tuple[str, str]) -> None:
    port = urlsplit(servers[0]).port
    Handler.seen.clear()
    hosts = ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]")
    for host in (*hosts, "0.0.0.0", "[::1]", "169.254.169.254", "10.0.0.1", "[fd00:ec2::254]"):
        assert "not public" in await refusal(FetchPolicy(), f"http://{host}:{port}/body"), host
    assert Handler.seen == []


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


async def test_the_checked_address_is_the_one_dialled(
    servers: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that answers with a public address first and a private one afterwards."""
    only_second_server_is_public(monkeypatch)
    port = urlsplit(servers[1]).port
    answers = iter(["127.0.0.2", "127.0.0.1", "127.0.0.1"])
    asked = []

    async def rebinding(host: str, port: int, **_: object) -> list[object]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", rebinding)
    fetcher = MediaFetcher(FetchPolicy())
    assert await fetcher.fetch(f"http://rebinding.example:{port}/body") == BODY
    await fetcher.close()
    assert asked == ["rebinding.example"]


async def test_one_private_address_among_public_ones_is_refused(
    servers: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    only_second_server_is_public(monkeypatch)

    async def both(host: str, port: int, **_: object) -> list[object]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("127.0.0.2", "127.0.0.1")
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
    port = urlsplit(servers[1]).port
    assert "not public" in await refusal(FetchPolicy(), f"http://both.example:{port}/body")


async def test_a_dead_address_is_followed_by_the_next(
    servers: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def two(host: str, port: int, **_: object) -> list[object]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("127.0.0.9", "127.0.0.1")
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", two)
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


async def test_allowed_domains(servers: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def local(host: str, port: int, **_: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", local)
    port = urlsplit(servers[0]).port
    policy = FetchPolicy(allow_private_addresses=True, allowed_domains=("Pictures.example",))
    fetcher = MediaFetcher(policy)
    for host in ("pictures.example", "a.b.pictures.example", "PICTURES.EXAMPLE."):
        assert await fetcher.fetch(f"http://{host}:{port}/body") == BODY
    await fetcher.close()
    for host in ("evilpictures.example", "pictures.example.evil.example", "127.0.0.1"):
        assert "allowed domains" in await refusal(policy, f"http://{host}:{port}/body")
    elsewhere = quote(f"http://evil.example:{port}/body", safe="")
    hop = f"http://pictures.example:{port}/redirect?to={elsewhere}"
    assert "allowed domains" in await refusal(policy, hop)


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
    for path in ("body", "endless", "boasting"):
        assert "4095" in await refusal(small, f"{servers[0]}/{path}", LimitError)
    fetcher = MediaFetcher(exact)
    assert await fetcher.fetch(f"{servers[0]}/body") == BODY
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
    "url",
    [
        "http://",
        "http:///body",
        "http://[::1/body",
        "http://host:99999/",
        "http://user@127.0.0.1/",
        "http://user:word@127.0.0.1/",
        "https://exa mple.com/",
        "http://127.0.0.1\\@example.com/",
        "http://\x00/",
    ],
)
async def test_malformed_urls_are_refused(url: str) -> None:
    await refusal(FetchPolicy(), url)


@pytest.mark.parametrize(
    "url", ["ftp://example.com/x", "gopher://x", "saccade-media:1234", "javascript:1", "s3://b/k"]
)
async def test_unknown_schemes_are_refused(url: str) -> None:
    assert "not supported" in await refusal(OPEN, url)


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
