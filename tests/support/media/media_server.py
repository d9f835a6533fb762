"""A real HTTP server that answers in every way in which media servers answer."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

from fetching import BODY


class Handler(BaseHTTPRequestHandler):
    """The ways in which a media server can answer."""

    protocol_version = "HTTP/1.1"
    ended = threading.Event()
    seen: ClassVar[list[str]] = []
    statuses: ClassVar[list[int]] = []  # of what `answer` has sent

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.seen.append(self.headers["Host"] + self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        getattr(self, url.path.strip("/"), self.absent)(query)

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.statuses.append(status)
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

    def kept(self, query: dict[str, str]) -> None:
        """The body named ``of``, with these headers; nothing of it where the client has it."""
        name, headers = query.pop("of"), query
        body = BODY + name.encode()
        same = self.headers["If-None-Match"], self.headers["If-Modified-Since"]
        if (headers.get("ETag"), headers.get("Last-Modified")) == same != (None, None):
            self.answer(304, **{k: v for k, v in headers.items() if k != "Last-Modified"})
        else:
            self.answer(200, body, **headers)

    def chunked(self, _: dict[str, str]) -> None:
        """The body in four pieces, and its length not before."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(BODY), 1024):
            self.wfile.write(b"400\r\n" + BODY[start : start + 1024] + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def declaring(self, _: dict[str, str]) -> None:
        """Declares the body, and then sends nothing."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
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


@contextmanager
def serving(*hosts: str) -> Iterator[list[str]]:
    """One server on each of these addresses; their URLs."""
    Handler.ended.clear()
    running = [ThreadingHTTPServer((host, 0), Handler) for host in hosts]
    for server in running:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield [f"http://{server.server_address[0]}:{server.server_port}" for server in running]
    Handler.ended.set()
    for server in running:
        server.shutdown()
        server.server_close()
