"""A stand-in for the Hugging Face hub, for what a real one says only of models that it hides."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# What the hub answers for a file of a model of this owner: status and X-Error-Code.
ANSWERS = {
    "good": (200, None),
    "unnamed": (401, None),  # a mirror's; the hub itself says the next
    "unknown": (401, "RepoNotFound"),
    "gated": (403, "GatedRepo"),
    "forbidden": (403, None),
    "old": (404, "RevisionNotFound"),
    "empty": (404, "EntryNotFound"),
    "nothub": (404, None),
    "busy": (429, None),
    "broken": (503, None),
}
COMMIT = "0" * 40


class _Hub(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        """The headers of a file, an error, or nothing for a long time."""
        owner = self.path.split("/")[1]
        if owner == "silent":
            time.sleep(20)
            return
        if owner == "dripping":
            with suppress(OSError):  # nobody listens any more
                for _ in range(40):  # each byte in time, the whole never
                    self.wfile.write(b"H")
                    time.sleep(0.5)
            return
        status, code = ANSWERS[owner]
        self.send_response(status)
        if code is not None:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{COMMIT}"')
        self.send_header("Content-Length", "2")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Tests print enough."""


@contextmanager
def hub() -> Iterator[str]:
    """Its URL, for ``HF_ENDPOINT``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
