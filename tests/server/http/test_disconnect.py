"""A client that goes away stops its work."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

LONG = {
    "model": "demo",
    "max_tokens": 4000,
    "ignore_eos": True,
    "messages": [{"role": "user", "content": "Go on"}],
}


def picture(url):
    parts = [{"type": "image_url", "image_url": {"url": url}}]
    return {"model": "demo", "max_tokens": 2, "messages": [{"role": "user", "content": parts}]}


def test_leaving_a_response_in_mid_stream_aborts(server):
    request = {"model": "demo", "max_output_tokens": 4000, "ignore_eos": True, "input": "Go on"}
    before = server.generated()
    with server.stream({**request, "stream": True}, "/v1/responses") as answer:
        lines = answer.iter_lines()
        for _ in range(30):
            next(lines)
    server.wait_until_idle()
    assert server.generated() - before < LONG["max_tokens"]


def test_leaving_in_mid_stream_aborts(server):
    before = server.generated()
    with server.stream({**LONG, "stream": True}) as answer:
        lines = answer.iter_lines()
        for _ in range(10):
            next(lines)
    server.wait_until_idle()
    # Idle because it was aborted, not because it had come to its end.
    assert server.generated() - before < LONG["max_tokens"]


def test_leaving_before_the_whole_answer_aborts(server):
    before = server.generated()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            server.url + "/v1/chat/completions",
            json=LONG,
            headers=server.headers,
            timeout=httpx.Timeout(60, read=1.0),
        )
    server.wait_until_idle()
    assert server.generated() - before < LONG["max_tokens"]


def test_leaving_while_media_hang_stops_the_fetch(server, silent_host, image_url):
    host = f"http://127.0.0.1:{silent_host.getsockname()[1]}"
    request = picture(image_url(56, 56))
    request["messages"][0]["content"] += picture(host)["messages"][0]["content"]
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            server.url + "/v1/chat/completions",
            json=request,
            headers=server.headers,
            timeout=httpx.Timeout(60, read=1.0),
        )
    connection, _ = silent_host.accept()
    with connection:
        connection.settimeout(60)
        while connection.recv(65_536):
            pass  # its request, then the end: the server has hung up
    server.wait_until_idle()


def test_media_of_a_request_are_fetched_together(server):
    """The media server answers only when all three have asked."""
    from_all = threading.Barrier(3, timeout=60)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            from_all.wait()
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as media:
        threading.Thread(target=media.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{media.server_port}"
        request = picture(f"{url}/0")
        for number in (1, 2):
            request["messages"][0]["content"] += picture(f"{url}/{number}")["messages"][0][
                "content"
            ]
        answer = server.post(request)
        media.shutdown()
    assert not from_all.broken
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "media_not_fetched"
    assert "404" in answer.json()["error"]["message"]
    server.wait_until_idle()
