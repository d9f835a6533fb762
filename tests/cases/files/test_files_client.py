"""Files through the official clients: uploaded once, asked about by their id."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from base64 import b64decode
from pathlib import Path

import anthropic
import httpx
import openai
import pytest
from people_send import AT, COLOUR, EVENTS, GREEN, LEAVES, OWN_SIZE, SHAPES, asked

IMAGE, VIDEO = b64decode(SHAPES), b64decode(EVENTS)
ROOT = Path(__file__).parents[3]
OTHER_KEY = "test-key-2"


@pytest.fixture(scope="module")
def image(client):
    return client.files.create(file=("shapes.jpg", IMAGE), purpose="user_data")


@pytest.fixture(scope="module")
def video(client):
    return client.files.create(file=("events.mp4", VIDEO), purpose="vision")


@pytest.fixture(scope="module")
def other(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key=OTHER_KEY, max_retries=0)


def kept(server):
    """Bytes and partial uploads in the server's folder."""
    return [sorted(os.listdir(server.files / name)) for name in ("bytes", "partial")]


def test_it_is_kept_listed_given_back_and_deleted(client):
    made = client.files.create(
        file=("a/b/shapes.jpg", IMAGE),
        purpose="user_data",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert (made.object, made.bytes, made.purpose) == ("file", len(IMAGE), "user_data")
    assert (made.filename, made.status) == ("shapes.jpg", "processed")
    assert made.expires_at == made.created_at + 3600
    assert abs(made.created_at - time.time()) < 60
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).read() == IMAGE
    assert made in list(client.files.list(limit=1))  # page by page
    assert client.files.delete(made.id).deleted
    for method in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match=made.id):
            method(made.id)


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("image", {"type": "image_url", "image_url": {"file_id": "ID"}}),
        ("image", {"type": "image_url", "file_id": "ID"}),
        ("image", {"type": "input_image", "file_id": "ID", "detail": "auto"}),
        ("image", {"type": "file", "file": {"file_id": "ID"}}),
        ("video", {"type": "video_url", "video_url": {"file_id": "ID", **OWN_SIZE}}),
        ("video", {"type": "file", "file": {"file_id": "ID"}, **OWN_SIZE}),
    ],
)
@pytest.mark.parametrize("route", ["chat", "responses"])
def test_it_stands_where_a_url_may(client, request, kind, part, route):
    file_id = request.getfixturevalue(kind).id
    part = json.loads(json.dumps(part).replace("ID", file_id))
    question, answer = (COLOUR, GREEN) if kind == "image" else (LEAVES, AT)
    if route == "chat":
        body = asked(part, question=question)
        messages = body.pop("messages")
        found = client.chat.completions.create(messages=messages, **body)
        assert found.choices[0].message.content == answer
        return
    if part["type"] == "file":  # as responses spell it
        part = {"type": "input_file", "file_id": file_id, **(OWN_SIZE if kind == "video" else {})}
    elif part["type"] == "video_url":
        part = {"type": "input_video", "file_id": file_id, **OWN_SIZE}
    content = [part, {"type": "input_text", "text": question}]
    found = client.responses.create(
        model="demo", temperature=0, input=[{"role": "user", "content": content}]
    )
    assert found.output_text == answer


def test_anthropics_source(server, image):
    key = server.headers["Authorization"].removeprefix("Bearer ")
    client = anthropic.Anthropic(base_url=server.url, api_key=key, max_retries=0)
    shown = {"type": "image", "source": {"type": "file", "file_id": image.id}}
    message = client.messages.create(
        model="demo",
        max_tokens=32,
        extra_body={"temperature": 0},
        messages=[{"role": "user", "content": [shown, {"type": "text", "text": COLOUR}]}],
    )
    assert message.content[0].text == GREEN


def test_the_plan_is_of_the_file(server, video):
    part = {"type": "video_url", "video_url": {"file_id": video.id, **OWN_SIZE}}
    (medium,) = server.post(asked(part), "/v1/vision/plan").json()["media"]
    assert medium["kind"] == "video"
    assert medium["source_frames"] == 96


def test_the_second_question_is_cached(client, video):
    part = {"type": "video_url", "video_url": {"file_id": video.id, **OWN_SIZE}}
    for _ in range(2):
        body = asked(part, question=LEAVES)
        messages = body.pop("messages")
        usage = client.chat.completions.create(messages=messages, **body).usage
    assert usage.prompt_tokens_details.cached_tokens > usage.prompt_tokens / 2


def test_nobody_uses_what_is_anothers(client, other, image):
    assert image.id not in [file.id for file in other.files.list()]
    for method in (other.files.retrieve, other.files.content, other.files.delete):
        with pytest.raises(openai.NotFoundError, match=image.id):
            method(image.id)
    body = asked({"type": "image_url", "image_url": {"file_id": image.id}})
    messages = body.pop("messages")
    with pytest.raises(openai.NotFoundError, match=image.id) as refused:
        other.chat.completions.create(messages=messages, **body)
    assert refused.value.param == "messages[0].content[0]"
    assert refused.value.code == "file_not_found"
    assert client.files.retrieve(image.id) == image


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "image_url", "image_url": {"file_id": "file-image-0"}}, ""),
        ({"type": "file", "file": {"file_id": "file-image-0"}}, ""),
        ({"type": "file", "file": {"file_id": "file-0"}}, ".file.file_id"),
        ({"type": "input_file", "file_id": "none"}, ".file_id"),
    ],
)
def test_an_unknown_file_is_a_404_with_its_id(server, part, param):
    answer = server.post(asked(part))
    assert answer.status_code == 404, answer.text
    error = answer.json()["error"]
    assert error["code"] == "file_not_found"
    assert error["param"] == f"messages[0].content[0]{param}"
    assert "'file-" in error["message"] or "'none'" in error["message"]


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "image_url", "image_url": {"file_id": 5}}, ".image_url.file_id"),
        (
            {"type": "image_url", "image_url": {"file_id": "a", "url": "data:,"}},
            ".image_url.file_id",
        ),
        ({"type": "input_image", "file_id": "a", "image_url": "data:,"}, ".file_id"),
    ],
)
def test_a_file_id_that_is_wrong(server, part, param):
    answer = server.post(asked(part))
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == f"messages[0].content[0]{param}"


@pytest.mark.parametrize(
    ("given", "status", "param"),
    [
        ({"files": {"file": ("a.jpg", IMAGE)}}, 400, "purpose"),
        ({"files": {"file": ("a.jpg", IMAGE)}, "data": {"purpose": "fine-tune"}}, 400, "purpose"),
        ({"files": {"other": ("a.jpg", IMAGE)}, "data": {"purpose": "vision"}}, 400, "other"),
        ({"files": {"purpose": (None, "vision")}}, 400, "file"),
        ({"files": {"file": ("a.txt", b"text")}, "data": {"purpose": "vision"}}, 400, "file"),
        (
            {"files": {"file": ("a.jpg", IMAGE)}, "data": {"purpose": "vision", "colour": "red"}},
            400,
            "colour",
        ),
        (
            {
                "files": {"file": ("a.jpg", IMAGE)},
                "data": {"purpose": "vision", "expires_after[seconds]": "soon"},
            },
            400,
            "expires_after.seconds",
        ),
        (
            {
                "files": {"file": ("a.jpg", IMAGE + bytes(4 * 2**20))},
                "data": {"purpose": "vision"},
            },
            413,
            "file",
        ),
        ({"json": {"purpose": "vision"}}, 415, None),
        (
            {
                "content": b"--a\r\nnothing",
                "headers": {"Content-Type": "multipart/form-data; boundary=a"},
            },
            400,
            None,
        ),
    ],
)
def test_an_upload_that_is_wrong_leaves_nothing(server, given, status, param):
    before = kept(server)
    headers = {**server.headers, **given.get("headers", {})}
    answer = httpx.post(server.url + "/v1/files", **{**given, "headers": headers})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["param"] == param
    assert kept(server) == before


def test_an_upload_that_is_cut_off_leaves_nothing(server):
    before = kept(server)
    host, _, port = server.url.removeprefix("http://").partition(":")
    key = server.headers["Authorization"]
    with socket.create_connection((host, int(port))) as connection:
        head = (
            f"POST /v1/files HTTP/1.1\r\nHost: a\r\nAuthorization: {key}\r\n"
            "Content-Type: multipart/form-data; boundary=a\r\nContent-Length: 999999\r\n\r\n"
            '--a\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
        )
        connection.sendall(head.encode() + IMAGE)
        deadline = time.monotonic() + 30
        while kept(server)[1] == before[1]:  # until it is on its way
            assert time.monotonic() < deadline
            time.sleep(0.01)
    while kept(server) != before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_documentation(server):
    """The calls in docs/files.md work as pasted, but for this server's address and key."""
    text = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    key = server.headers["Authorization"].removeprefix("Bearer ")
    code = code.replace("http://localhost:8000", server.url).replace('"none"', f'"{key}"')
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    first, second = done.stdout.splitlines()
    assert first.split()[0] == AT
    assert int(second.split()[-1]) > 0  # of the file that was seen before


@pytest.mark.parametrize(
    ("query", "param"),
    [("limit=0", "limit"), ("limit=a", "limit"), ("order=up", "order"), ("after=none", "after")],
)
def test_a_list_that_is_asked_for_wrongly(server, query, param):
    answer = httpx.get(f"{server.url}/v1/files?{query}", headers=server.headers)
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["param"] == param
