"""Media beyond the limits or damaged, over HTTP: a clear 4xx, and the next good one is answered."""

import base64
import gzip
import json
import socket
import threading
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from PIL import Image
from real_files import encode_clip, encoded, real_clips, real_images

PART = "messages[0].content[0]"
SECRET = b"inside-of-the-network"


def inline(data: bytes) -> str:
    return "data:;base64," + base64.b64encode(data).decode()


def cases() -> dict[str, tuple[str, str, int, str]]:
    """name -> type of the part, URL, status and code of the answer."""
    images, clips = real_images(), real_clips()
    # Beyond the limits of conftest.py.
    large = Image.new("L", (4000, 3000))
    dark = np.zeros((61, 48, 64, 3), np.uint8)
    made = {}

    def add(name: str, kind: str, media: bytes | str, status: int, code: str) -> None:
        url = media if isinstance(media, str) else inline(media)
        made[name] = (kind, url, status, code)

    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP"):
        add(f"large-{kind}", "image_url", encoded(large, kind), 413, "media_too_large")
    add("half-a-webp", "image_url", images["webp"][:600], 400, "media_not_decoded")
    add("half-a-jpeg", "image_url", images["jpeg"][:600], 400, "media_not_decoded")
    add("a-clip-as-image", "image_url", clips["mp4"], 400, "media_not_decoded")
    add("user", "image_url", "http://user@media.example/", 400, "media_not_fetched")
    add(
        "long-clip",
        "video_url",
        encode_clip("avi", "mjpeg", shown=dark, rate=1),
        413,
        "media_too_large",
    )
    add("half-an-mp4", "video_url", clips["mp4"][:2000], 400, "media_not_decoded")
    add("another-codec", "video_url", encode_clip("avi", "ffvhuff"), 400, "media_not_decoded")
    add("one-frame", "video_url", encode_clip("gif", "gif", 1), 400, "media_not_decoded")
    add("an-image-as-clip", "video_url", images["jpeg"], 400, "media_not_decoded")
    return made


CASES = cases()
SERVERS = {
    "redirect-to-a-file": b"HTTP/1.1 302 Found\r\nLocation: file:///a.png\r\n\r\n",
    "redirect-to-nowhere": b"HTTP/1.1 302 Found\r\nLocation: http://media.example:port/\r\n\r\n",
    "gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(SECRET),
    "short": b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + SECRET,
    "absent": b"HTTP/1.1 404 Not Found\r\nContent-Length: 21\r\n\r\n" + SECRET,
}


@pytest.fixture
def answering() -> Iterator[tuple[str, list[bytes]]]:
    """A media server's URL, and the list that its one answer to all is taken from."""
    answers: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65_536)
                    connection.sendall(answers[0])

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/", answers
        listener.shutdown(socket.SHUT_RDWR)


def ask(server, kind: str, url: str) -> httpx.Response:
    parts = [{"type": kind, kind: {"url": url}}, {"type": "text", "text": "what is this?"}]
    message = {"role": "user", "content": parts}
    return server.post({"model": "demo", "max_tokens": 2, "messages": [message]})


def refuse(server, kind: str, url: str, status: int, code: str) -> None:
    answer = ask(server, kind, url)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, PART), error
    assert error["type"] == "invalid_request_error"
    for leak in ("0x", "Errno", "object at", "Traceback", "127.0.0.1", SECRET.decode()):
        assert leak not in error["message"]


def test_bad_media_one_after_the_other(server, image_url):
    processes = {process.pid for process in server.group_processes()}
    for name, (kind, url, status, code) in CASES.items():
        refuse(server, kind, url, status, code)
        assert ask(server, "image_url", image_url(56, 56)).status_code == 200, name
    good = ask(server, "video_url", inline(real_clips()["mp4"]))
    assert good.status_code == 200
    assert good.json()["usage"]["prompt_tokens"] > 100
    server.wait_until_idle()
    assert {process.pid for process in server.group_processes()} == processes


def test_half_a_surrogate_pair_in_a_url(server):
    """JSON can spell what no text can hold."""
    part = {"type": "image_url", "image_url": {"url": "data:,\ud800"}}
    body = {"model": "demo", "messages": [{"role": "user", "content": [part]}]}
    answer = httpx.post(
        server.url + "/v1/chat/completions",
        content=json.dumps(body),
        headers={**server.headers, "Content-Type": "application/json"},
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


@pytest.mark.parametrize("name", SERVERS)
def test_faulty_media_servers(server, image_url, answering, name):
    url, answers = answering
    answers.append(SERVERS[name])
    refuse(server, "image_url", url, 400, "media_not_fetched")
    assert ask(server, "image_url", image_url(56, 56)).status_code == 200


def test_bad_media_together(server, image_url):
    """All at the same time, good ones among them; memory, files and threads come back."""
    (front, *_) = [p for p in server.group_processes() if p.pid == server.process.pid]
    ask(server, "image_url", image_url(56, 56))
    server.wait_until_idle()
    held, files = front.memory_info().rss, front.num_fds()
    outcomes: dict[str, int] = {}

    def post(name: str, kind: str, url: str) -> None:
        outcomes[name] = ask(server, kind, url).status_code

    good = {f"good-{n}": ("image_url", image_url(112, 112)) for n in range(4)}
    wanted = {name: case[2] for name, case in CASES.items()} | dict.fromkeys(good, 200)
    requests = good | {name: case[:2] for name, case in CASES.items()}
    threads = [threading.Thread(target=post, args=(n, *r)) for n, r in requests.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == wanted
    server.wait_until_idle()
    assert front.memory_info().rss - held < 150 * 2**20
    assert front.num_fds() <= files + 8  # client connections that are kept open
