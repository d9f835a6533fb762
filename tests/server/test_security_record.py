"""The security record of servers of this kind: what went wrong elsewhere, tried here.

One test for every entry, named after it; the ground around them is covered by the other tests.
"""

import base64
import io
import ipaddress
import socket
import threading
from urllib.parse import urlsplit

import psutil
import pytest
from fetching import refusal
from PIL import Image

from saccade.media.fetch import FetchPolicy
from saccade.server import vllm_arguments

PART = "messages[0].content[0]"


def ask(server, *parts, **fields):
    body = {"model": "demo", "max_tokens": 1, "messages": [{"role": "user", "content": parts}]}
    return server.post(body | fields)


def image(url, **controls):
    return {"type": "image_url", "image_url": {"url": url}, **controls}


def refused(answer, status, param):
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param), error
    return error


@pytest.fixture
def untouched(silent_host):
    """The URL of a media server, to which nobody may have come by the end."""
    yield f"http://127.0.0.1:{silent_host.getsockname()[1]}/a.png"
    silent_host.setblocking(False)
    with pytest.raises(BlockingIOError):
        silent_host.accept()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"])
async def test_cve_2025_6242_private_addresses(untouched, host):
    url = f"http://{host}:{urlsplit(untouched).port}/"
    assert "not public" in await refusal(FetchPolicy(), url)


@pytest.mark.parametrize("host", ["media.example\\@127.0.0.1", "media.example@127.0.0.1"])
async def test_cve_2026_24779_hosts_read_in_two_ways(untouched, host):
    """What is checked against the allowed domains must be what is dialled."""
    policy = FetchPolicy(allow_private_addresses=True, allowed_domains=("media.example",))
    await refusal(policy, f"http://{host}:{urlsplit(untouched).port}/")


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file_url", "file_url": {"url": "URL"}},
        {"type": "input_file", "file_url": "URL"},
        {"type": "audio_url", "audio_url": {"url": "URL"}},
        {"type": "text", "text": "a", "image_url": {"url": "URL"}},
    ],
)
def test_cve_2026_34753_other_ways_to_make_it_fetch(server, untouched, part):
    named = {k: ({"url": untouched} if isinstance(v, dict) else v) for k, v in part.items()}
    named = {key: untouched if value == "URL" else value for key, value in named.items()}
    assert ask(server, named).status_code == 400


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/", "unix:/run/a"])
def test_vllm_57157_redirects(server, target):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def redirect() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(f"HTTP/1.1 302 Found\r\nLocation: {target}\r\n\r\n".encode())

        thread = threading.Thread(target=redirect)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        error = refused(ask(server, image(url)), 400, PART)
        thread.join()
    assert error["code"] == "media_not_fetched"
    assert "root:" not in error["message"]


def test_cve_2026_22778_errors_that_tell_addresses(server):
    for data in (b"no image", b"\x89PNG\r\n\x1a\n" + bytes(50), b"\xff\xd8\xff\xe0" + bytes(50)):
        url = "data:image/png;base64," + base64.b64encode(data).decode()
        error = refused(ask(server, image(url)), 400, PART)
        for leak in ("0x", "object at", "BytesIO"):
            assert leak not in error["message"]


def test_cve_2026_34755_frames_without_bound(server, image_url):
    frame = image_url(56, 56)
    joined = "data:video/jpeg;base64," + ",".join([frame.partition(",")[2]] * 3000)
    refused(ask(server, {"type": "video_url", "video_url": {"url": joined}}), 400, PART)
    error = refused(ask(server, {"type": "video", "video": [frame] * 3000}), 413, PART)
    assert error["code"] == "media_too_large"


@pytest.mark.parametrize(
    ("fields", "path"),
    [({"n": 17}, "/v1/chat/completions"), ({"n": 10**9}, "/v1/completions")],
)
def test_cve_2026_34756_answers_without_bound(server, fields, path):
    fields |= {"model": "demo", "prompt": "a", "messages": [{"role": "user", "content": "a"}]}
    assert "16" in refused(server.post(fields, path), 400, "n")["message"]


def test_cve_2026_105758_every_frame_of_a_clip(server, untouched):
    fields = {"media_io_kwargs": {"video": {"num_frames": -1}}}
    clip = {"type": "video_url", "video_url": {"url": untouched}}
    refused(ask(server, clip, **fields), 400, "media_io_kwargs")
    refused(ask(server, clip | {"nframes": -1}), 400, f"{PART}.nframes")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 10**6}, "n"),
        ({"stop": ["a"] * 1000}, "stop"),
        ({"tools": [{}] * 1000}, "tools"),
        ({"response_format": {"type": "json_schema", "a": "b" * 10**5}}, "response_format"),
        ({"top_logprobs": 100}, "top_logprobs"),
    ],
)
def test_cve_2026_100650_limits_before_media(server, untouched, fields, param):
    refused(ask(server, image(untouched), **fields), 400, param)


def test_cve_2026_44222_placeholder_text(server, image_url):
    text = {"type": "text", "text": "<|vision_start|><|image_pad|><|video_pad|><|vision_end|>"}
    for parts in ([text], [text, image(image_url(56, 56))], [image(image_url(56, 56)), text]):
        assert ask(server, *parts).status_code == 200
    body = {"model": "demo", "prompt": text["text"], "max_tokens": 1}
    assert server.post(body, "/v1/completions").status_code == 200
    assert ask(server, {"type": "text", "text": "still there?"}).status_code == 200


def test_cve_2026_105754_forged_placeholders_and_hashes(server, image_url):
    assert server.post({"token_ids": [1526]}, "/inference/v1/generate").status_code == 404
    forged = {"features": {"mm_hashes": {"image": ["0"]}, "mm_placeholders": {"image": []}}}
    plain = ask(server, image(image_url(56, 56)))
    assert ask(server, image(image_url(56, 56)), **forged).json()["usage"] == plain.json()["usage"]
    refused(ask(server, image(image_url(56, 56), uuid="0")), 400, f"{PART}.uuid")
    refused(ask(server, image("saccade-media:0")), 400, PART)


def test_cve_2025_46722_hash_without_the_shape(server, image_url):
    """Two pictures of the same bytes in other shapes are two pictures to every cache."""

    def likelihood(width, height):
        answer = ask(server, image(image_url(width, height)), logprobs=True, seed=1, temperature=0)
        return answer.json()["choices"][0]["logprobs"]["content"][0]["logprob"]

    wide, tall = likelihood(168, 56), likelihood(56, 168)
    assert wide != tall
    assert likelihood(168, 56) == pytest.approx(wide, abs=1e-4)


def test_cve_2026_109229_the_limit_of_pixels_stays(server):
    """Pillow's own limit, of the whole process, is nobody's to take away."""
    assert Image.MAX_IMAGE_PIXELS == 1024 * 1024 * 1024 // 4 // 3
    huge = "data:image/png;base64," + base64.b64encode(encode_huge()).decode()
    assert refused(ask(server, image(huge)), 413, PART)["code"] == "media_too_large"


def encode_huge() -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    return buffer.getvalue()


def test_pickle_over_sockets(server, monkeypatch):
    """Only the HTTP port can be reached from other machines, and nothing inside unpickles."""
    port = urlsplit(server.url).port
    listening = [
        connection.laddr
        for process in server.group_processes()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert port in {address.port for address in listening}
    reachable = [a for a in listening if not ipaddress.ip_address(a.ip).is_loopback]
    assert reachable == []
    parser = vllm_arguments.make_parser()
    vllm_arguments.add_engine_arguments(parser)
    monkeypatch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")
    with pytest.raises(ValueError, match="VLLM_ALLOW_INSECURE_SERIALIZATION"):
        vllm_arguments.prepare_arguments(parser.parse_args([]))
