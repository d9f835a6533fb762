"""Where requests carry their media: Base64 in every wrapping, URLs, lists of frames, uploads."""

import base64
import gzip
import json

import httpx
import pytest
from people_send import COLOUR, EVENTS_URL, GREEN, SHAPES, SHAPES_URL, asked, image, planned, system

PART = "messages[0].content[0]"


def test_ollamas_images(server, refused):
    message = {"role": "user", "content": COLOUR, "images": [SHAPES]}
    for images in ([SHAPES], [SHAPES_URL]):
        body = {**asked(), "messages": [{**message, "images": images}]}
        answer = server.post(body).json()
        assert answer["choices"][0]["message"]["content"] == GREEN
        assert answer["usage"]["prompt_tokens_details"]["image_tokens"] > 0
    for images, place in ((SHAPES, "images"), ([5], "images[0]"), (["*"], "images[0]")):
        body = {**asked(), "messages": [{**message, "images": images}]}
        assert refused(body)[0] == f"messages[0].{place}"


@pytest.mark.parametrize("name", ["image", "image_url", "video", "videos", "attachments"])
def test_media_beside_content_are_refused(refused, name):
    body = asked()
    body["messages"][0][name] = SHAPES_URL
    assert refused(body)[0] == f"messages[0].{name}"


def wrapped(text, end, width=76):
    return end.join(text[i : i + width] for i in range(0, len(text), width))


@pytest.mark.parametrize(
    "payload",
    [
        SHAPES.rstrip("="),
        wrapped(SHAPES, "\n"),
        wrapped(SHAPES, "\r\n") + "\r\n",
        " " + SHAPES,
        wrapped(SHAPES.rstrip("="), "\n", 64),
        wrapped(SHAPES, "%0A"),
    ],
    ids=["unpadded", "lines", "lines of mail", "a blank", "both", "lines of a URL"],
)
def test_base64_as_it_is_wrapped(answered, payload):
    assert answered(asked(image(f"data:image/jpeg;base64,{payload}"))) == GREEN


def test_unpadded_base64_of_every_length(server):
    import io

    from PIL import Image

    lengths = set()
    for width in range(56, 62):
        file = io.BytesIO()
        Image.new("RGB", (width, 56), "red").save(file, "PNG")
        data = base64.b64encode(file.getvalue() + b"\0" * (width % 3)).decode()
        lengths.add(data.count("="))
        url = f"data:image/png;base64,{data.rstrip('=')}"
        assert planned(server, asked(image(url)))[0]["source_size"] == [width, 56]
    assert lengths == {0, 1, 2}


@pytest.mark.parametrize("payload", ["AAA*", "A", "AA=A", "ÄÄ==", "AA-_"])
def test_base64_with_other_letters_is_refused(refused, payload):
    param, message = refused(asked(image(f"data:image/jpeg;base64,{payload}")))
    assert param == PART
    assert "base64" in message


@pytest.mark.parametrize("url", [SHAPES, SHAPES[:60], "picture.jpg", "/picture.jpg", "//a/b.jpg"])
def test_what_is_no_url(refused, url):
    param, message = refused(asked(image(url)))
    assert param == PART
    assert "https://" in message
    assert "data:image/jpeg;base64," in message


def test_a_list_of_frames_in_one_url(refused):
    param, message = refused(
        asked(
            {"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{SHAPES},{SHAPES}"}}
        )
    )
    assert param == PART
    assert '"video": [' in message


def test_a_list_of_frames_with_fps(refused):
    part = {"type": "video", "video": [SHAPES_URL] * 4, "fps": 2}
    param, message = refused(asked(part))
    assert param == f"{PART}.fps"
    assert "sample_fps" in message


def test_objects_uploaded_in_chunks(server):
    """A media server that tells the coding of an upload, as object stores do."""
    import http.server
    import threading

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = base64.b64decode(SHAPES)
            self.send_response(200)
            self.send_header("Content-Encoding", self.path.strip("/"))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as media:
        threading.Thread(target=media.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{media.server_port}"
        for coding in ("aws-chunked", "AWS-chunked,", "identity"):
            assert planned(server, asked(image(f"{url}/{coding}")))[0]["tokens"] > 0
        for coding in ("gzip", "aws-chunked,gzip", "br"):
            answer = server.post(asked(image(f"{url}/{coding}")), "/v1/vision/plan")
            assert answer.status_code == 400
            assert coding.rpartition(",")[2] in answer.json()["error"]["message"]
        media.shutdown()


def test_a_compressed_body(server):
    body = gzip.compress(json.dumps(asked()).encode())
    for coding in ("gzip", "GZIP", "deflate", "br", "zstd"):
        headers = {"Content-Type": "application/json", "Content-Encoding": coding}
        answer = httpx.post(
            server.url + "/v1/chat/completions", content=body, headers=server.headers | headers
        )
        assert answer.status_code == 415
        assert coding.lower() in answer.json()["error"]["message"]


def test_videos_in_files(server):
    part = {"type": "file", "file": {"file_data": EVENTS_URL}}
    assert planned(server, asked(part))[0]["kind"] == "video"
    messages = [system("Be brief."), *asked(part)["messages"]]
    assert planned(server, {**asked(), "messages": messages})[0]["path"] == (
        "messages[1].content[0]"
    )
