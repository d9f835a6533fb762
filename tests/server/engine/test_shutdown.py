"""SIGTERM: requests under way finish, new ones are refused, nothing is left."""

import base64
import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

TOKENS = 1000
STREAM = {
    "model": "demo",
    "max_tokens": TOKENS,
    "ignore_eos": True,
    "stream": True,
    "stream_options": {"include_usage": True},
    "messages": [{"role": "user", "content": "Go on"}],
}


@pytest.fixture
def held_media(image_url):
    """URL of an image that is delivered once the event is set."""
    event = threading.Event()
    data = base64.b64decode(image_url(56, 56).partition(",")[2])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            event.wait()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as media:
        threading.Thread(target=media.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{media.server_port}/", event
        event.set()
        media.shutdown()


def test_sigterm_in_mid_stream(start_server, held_media, wait_for):
    url, deliver = held_media
    server = start_server(
        "--allow-private-media",
        "--drain-timeout=600",
        "--media-read-timeout=600",
        "--media-total-timeout=600",
    )
    assert len(server.group_processes()) > 1  # the engine's
    parts = [{"type": "image_url", "image_url": {"url": url}}]
    picture = {"model": "demo", "max_tokens": 2, "messages": [{"role": "user", "content": parts}]}
    with ThreadPoolExecutor() as pool, server.stream(STREAM) as answer:
        lines = answer.iter_lines()
        for _ in range(10):
            next(lines)
        # Its medium is held back, and with it the end of the drain, until all has been seen.
        held = pool.submit(server.post, picture)
        wait_for(lambda: server.metrics()["saccade_media_loading"] == 1, "nothing is fetched")

        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: httpx.get(server.url + "/ready").status_code == 503, "/ready stayed green")
        refused = server.post(STREAM)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        assert int(refused.headers["retry-after"]) > 0
        assert httpx.get(server.url + "/health").status_code == 200

        events = [line.removeprefix("data: ") for line in lines if line]
        assert events[-1] == "[DONE]"
        assert json.loads(events[-2])["usage"]["completion_tokens"] == TOKENS
        deliver.set()
        served = held.result()
        details = served.json()["usage"]["prompt_tokens_details"]
        assert (served.status_code, details["image_tokens"]) == (200, 4)
    assert server.process.wait(120) == 0
    wait_for(lambda: server.group_processes() == [], "processes are left")
    assert "force killing" not in server.log.read_text()
