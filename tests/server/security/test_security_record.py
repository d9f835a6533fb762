"""The security record of servers of this kind: the rule that each entry would have broken.

One test for every entry, named after it, of ordinary input; the ground around them is covered by
the other tests.
"""

import base64
import ipaddress
import socket
import threading
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from fetching import refusal
from PIL import Image

from saccade.media.fetch.addresses import CheckedResolver
from saccade.media.fetch.fetcher import FetchPolicy, MediaFetcher
from saccade.media.limits import MediaLimits
from saccade.server.engine import flags

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


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_cve_2025_6242_private_addresses(untouched, host):
    url = f"http://{host}:{urlsplit(untouched).port}/"
    assert "not public" in await refusal(FetchPolicy(), url)


async def test_cve_2026_24779_hosts_read_in_two_ways(untouched, monkeypatch):
    """vLLM before 0.14.1 judged a URL's host with one parser and fetched it with another.

    Here the host that was judged is the one that is asked for: the text is read once.
    """
    asked = []

    async def resolve(_, host, *__, **___):
        asked.append(host)
        raise OSError

    monkeypatch.setattr(CheckedResolver, "resolve", resolve)
    judged = httpx.URL("http://media.example/")
    monkeypatch.setattr(MediaFetcher, "_checked_url", lambda *_: judged)
    await refusal(FetchPolicy(allow_private_addresses=True), untouched)
    assert asked == ["media.example"]


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


@pytest.mark.parametrize("target", ["file:///a.png", "ftp://media.example/a.png"])
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


def test_cve_2026_22778_errors_that_tell_addresses(server):
    for data in (b"no image", b"\x89PNG\r\n\x1a\n" + bytes(50), b"\xff\xd8\xff\xe0" + bytes(50)):
        url = "data:image/png;base64," + base64.b64encode(data).decode()
        error = refused(ask(server, image(url)), 400, PART)
        for leak in ("0x", "object at", "BytesIO"):
            assert leak not in error["message"]


def test_cve_2026_34755_frames_without_bound(server, image_url):
    frame = image_url(56, 56)
    joined = "data:video/jpeg;base64," + ",".join([frame.partition(",")[2]] * 2)
    refused(ask(server, {"type": "video_url", "video_url": {"url": joined}}), 400, PART)
    most = MediaLimits().max_listed_frames
    error = refused(ask(server, {"type": "video", "video": [frame] * (most + 1)}), 413, PART)
    assert error["code"] == "media_too_large"


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"n": 17, "messages": [{"role": "user", "content": "a"}]}, "/v1/chat/completions"),
        ({"n": 17, "prompt": "a"}, "/v1/completions"),
    ],
)
def test_cve_2026_34756_answers_without_bound(server, fields, path):
    assert "16" in refused(server.post(fields | {"model": "demo"}, path), 400, "n")["message"]


def test_cve_2026_105758_every_frame_of_a_clip(server, untouched):
    """vLLM's own field for sampling, with which 0.32 can decode all, is read as our controls.

    These are held to the limits of every video: -1, all frames, too.
    """
    clip = {"type": "video_url", "video_url": {"url": untouched}}
    for frames in (-2, 0, 2**40):
        fields = {"media_io_kwargs": {"video": {"num_frames": frames}}}
        refused(ask(server, clip, **fields), 400, "media_io_kwargs.video.num_frames")
    refused(ask(server, clip | {"nframes": 0}), 400, f"{PART}.nframes")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 17}, "n"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"tools": [{}] * 129}, "tools"),
        ({"response_format": {"type": "json_schema", "a": "b" * 65_536}}, "response_format"),
        ({"top_logprobs": 21}, "top_logprobs"),
    ],
)
def test_cve_2026_100650_limits_before_media(server, untouched, fields, param):
    refused(ask(server, image(untouched), **fields), 400, param)


def test_cve_2026_44222_placeholder_text(server, image_url):
    """In vLLM text that spelled a medium's place ended the engine; Qwen2.5-VL was the example.

    Here text spells no special token, whichever it is (`test_renderer.py`).
    """
    text = {"type": "text", "text": "<|im_start|>"}
    for parts in ([text], [text, image(image_url(56, 56))], [image(image_url(56, 56)), text]):
        answer = ask(server, *parts, return_token_ids=True)
        assert answer.status_code == 200
        asked = ask(server, *[p for p in parts if p is not text], return_token_ids=True)
        start = answer.json()["prompt_token_ids"][0]
        counts = [a.json()["prompt_token_ids"].count(start) for a in (answer, asked)]
        assert counts[0] == counts[1]


def test_cve_2026_105754_forged_placeholders_and_hashes(server, image_url):
    """vLLM's raw route took places and hashes of media as they came; here there is none."""
    assert server.post({"token_ids": [1526]}, "/inference/v1/generate").status_code == 404
    plain = ask(server, image(image_url(56, 56)))
    more = ask(server, image(image_url(56, 56)), features={"mm_hashes": {}})
    assert more.json()["usage"] == plain.json()["usage"]
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


def test_cve_2026_109229_the_limit_of_pixels_stays(server, image_url):
    """Pillow's own limit, of the whole process, is nobody's to take away."""
    assert Image.MAX_IMAGE_PIXELS == 1024 * 1024 * 1024 // 4 // 3
    error = refused(ask(server, image(image_url(4000, 3000))), 413, PART)  # conftest.py: 8 million
    assert error["code"] == "media_too_large"


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
    parser = flags.make_parser()
    flags.add_engine_arguments(parser)
    monkeypatch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")
    with pytest.raises(ValueError, match="VLLM_ALLOW_INSECURE_SERIALIZATION"):
        flags.prepare_arguments(parser.parse_args([]))
