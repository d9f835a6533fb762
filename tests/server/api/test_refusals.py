"""Every bad request gets an answer that names what is wrong, and the server goes on."""

import base64
import json

import httpx
import pytest

PART = "messages[0].content[0]"
ENCODED = "data:image/jpeg;base64,"


def body(*parts, **fields):
    return {
        "model": "demo",
        "max_tokens": 2,
        "messages": [{"role": "user", "content": list(parts)}],
        **fields,
    }


def image(url, **controls):
    return {"type": "image_url", "image_url": {"url": url}, **controls}


def truncated_jpeg(image_url):
    data = base64.b64decode(image_url(200, 200, "red", "JPEG").partition(",")[2])
    return ENCODED + base64.b64encode(data[: len(data) // 2]).decode()


@pytest.fixture
def refused(server):
    """Posts a body; returns status and error, after the server has served a good one again."""

    def post(request, path="/v1/chat/completions"):
        answer = server.post(request, path)
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        assert "\n" not in error["message"]
        assert server.post(body({"type": "text", "text": "still there?"})).status_code == 200
        server.wait_until_idle()
        return answer.status_code, error

    return post


def test_bytes_that_are_no_image(refused):
    status, error = refused(body(image(ENCODED + base64.b64encode(b"no image").decode())))
    assert (status, error["param"], error["code"]) == (400, PART, "media_not_decoded")


def test_truncated_jpeg(refused, image_url):
    status, error = refused(body(image(truncated_jpeg(image_url))))
    assert (status, error["param"], error["code"]) == (400, PART, "media_not_decoded")


def test_no_bytes_at_all(refused):
    status, error = refused(body(image(ENCODED)))
    assert (status, error["param"]) == (400, PART)


def test_too_narrow(refused, image_url):
    status, error = refused(body(image(image_url(1, 1000))))
    assert (status, error["param"]) == (400, PART)
    assert "200" in error["message"]


@pytest.mark.parametrize(
    "url", ["ftp://example.org/a.png", "saccade-media:AAAA", "javascript:1", "gopher://x"]
)
def test_unknown_scheme_and_forged_handle(refused, url):
    status, error = refused(body(image(url)))
    assert (status, error["param"], error["code"]) == (400, PART, "media_not_fetched")
    assert url.partition(":")[0] in error["message"]


def test_file_outside_the_media_root(refused, tmp_path, image_url):
    file = tmp_path / "a.png"
    file.write_bytes(base64.b64decode(image_url(56, 56).partition(",")[2]))
    status, error = refused(body(image(file.as_uri())))
    assert (status, error["param"], error["code"]) == (400, PART, "media_not_fetched")


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "audio_url", "audio_url": {"url": "https://example.org/a.wav"}},
        {"type": "image_embeds", "image_embeds": "AAAA"},
        {"type": "prompt_embeds", "data": "AAAA"},
        {"type": "image_pil", "image_pil": None},
        {"type": "hologram"},
        {"image_url": "https://example.org/a.png"},
        {"type": 7},
    ],
    ids=lambda part: str(part.get("type")),
)
def test_unknown_part_types(refused, part):
    status, error = refused(body(part))
    assert (status, error["param"]) == (400, f"{PART}.type")


@pytest.mark.parametrize(
    ("part", "place"),
    [
        ({"type": "image_url"}, "image_url"),
        ({"type": "image_url", "image_url": {}}, "image_url.url"),
        ({"type": "image_url", "image_url": {"url": ""}}, "image_url.url"),
        ({"type": "image_url", "image_url": " "}, "image_url"),
        ({"type": "image", "image": 5}, "image"),
        ({"type": "video_url", "video_url": {"url": None}}, "video_url.url"),
        ({"type": "video", "video": []}, "video"),
        ({"type": "video", "video": ["data:,x", ""]}, "video[1]"),
        ({"type": "text"}, "text"),
        ({"type": "text", "text": "a", "image_url": "data:,x"}, "image_url"),
    ],
)
def test_parts_without_what_they_need(refused, part, place):
    status, error = refused(body(part))
    assert (status, error["param"]) == (400, f"{PART}.{place}")


@pytest.mark.parametrize(
    ("part", "place"),
    [
        (image("data:,x", max_pixels=-1), "max_pixels"),
        (image("data:,x", max_pixels="many"), "max_pixels"),
        (image("data:,x", maxpixels=5), "maxpixels"),
        (image("data:,x", uuid="mine"), "uuid"),
        (image("data:,x", detail="sharp"), "detail"),
        (image("data:,x", min_pixels=9000, max_pixels=5000), "min_pixels"),
        ({"type": "image_url", "image_url": {"url": "data:,x", "fps": 1}}, "image_url.fps"),
        (
            {
                "type": "image_url",
                "image_url": {"url": "data:,x", "max_pixels": 1},
                "max_pixels": 2,
            },
            "image_url.max_pixels",
        ),
        ({"type": "video", "video": "data:,x", "fps": 2.0, "nframes": 4}, "fps"),
    ],
)
def test_controls_are_refused_by_name(refused, part, place):
    status, error = refused(body(part))
    assert (status, error["param"], error["code"]) == (400, f"{PART}.{place}", "invalid_control")


def test_the_second_message_is_named(refused):
    request = body({"type": "text", "text": "a"})
    request["messages"].append({"role": "user", "content": [image("data:,x", max_pixels=0)]})
    status, error = refused(request)
    assert (status, error["param"]) == (400, "messages[1].content[0].max_pixels")


def test_video_without_frames(refused):
    # A valid MP4 header and nothing in it.
    empty = base64.b64encode(b"\0\0\0\x18ftypisom\0\0\x02\0isomiso2").decode()
    status, error = refused(
        body({"type": "video_url", "video_url": {"url": "data:video/mp4;base64," + empty}})
    )
    assert (status, error["param"], error["code"]) == (400, PART, "media_not_decoded")


@pytest.mark.parametrize(
    "field",
    [
        "mm_processor_kwargs",
        "media_io_kwargs",
        "prompt_embeds",
        "chat_template",
        "kv_transfer_params",
        "ec_transfer_params",
    ],
)
def test_fields_that_would_reach_into_the_server(refused, field):
    status, error = refused(body({"type": "text", "text": "a"}, **{field: {"video": {"x": 1}}}))
    assert (status, error["param"].partition(".")[0]) == (400, field)


@pytest.mark.parametrize(
    ("vision", "param"),
    [
        (True, "vision"),
        ({"report": "yes"}, "vision.report"),
        ({"coordinates": "screen"}, "vision.coordinates"),
        ({"boxes": True}, "vision.boxes"),
    ],
)
def test_vision_options(refused, vision, param):
    status, error = refused(body({"type": "text", "text": "a"}, vision=vision))
    assert (status, error["param"]) == (400, param)


def test_transfers_among_the_extra_arguments(refused):
    extra = {"vllm_xargs": {"kv_transfer_params": "x"}}
    status, error = refused(body({"type": "text", "text": "a"}, **extra))
    assert (status, error["param"]) == (400, "vllm_xargs.kv_transfer_params")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": 5, "content": "a"}]}, "messages[0]"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"n": "two"}, "n"),
    ],
)
def test_fields_of_the_wrong_kind(refused, fields, param):
    status, error = refused(body({"type": "text", "text": "a"}) | fields)
    assert status == 400
    assert error["param"].startswith(param)


def test_model_that_is_not_served(refused, image_url):
    # With an image: it is loaded by then, and nobody will take it.
    status, error = refused(body(image(image_url(56, 56)), model="gpt-9"))
    assert (status, error["param"], error["code"]) == (404, "model", "model_not_found")
    assert "gpt-9" in error["message"]


def test_prompt_longer_than_the_context(refused):
    status, error = refused(body({"type": "text", "text": "word " * 9000}))
    assert (status, error["code"]) == (400, "context_length_exceeded")
    assert "4096" in error["message"]


def test_image_longer_than_the_context(refused, image_url):
    status, error = refused(body(image(image_url(2240, 2240))))
    assert (status, error["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize("content", ["{not json", "[1, 2]", '{"a": NaN}', "", '"text"'])
def test_body_that_is_no_json_object(server, content):
    answer = httpx.post(
        server.url + "/v1/chat/completions",
        content=content,
        headers={**server.headers, "Content-Type": "application/json"},
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_json"


def test_body_that_is_not_declared_as_json(server):
    answer = httpx.post(
        server.url + "/v1/chat/completions",
        content=json.dumps(body({"type": "text", "text": "a"})),
        headers={**server.headers, "Content-Type": "text/plain"},
    )
    assert answer.status_code == 415


def test_unknown_path_and_method(server):
    unknown = httpx.get(server.url + "/nothing")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")
    wrong = httpx.get(server.url + "/v1/chat/completions", headers=server.headers)
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "x"}])
def test_wrong_keys(server, header):
    answer = httpx.get(server.url + "/v1/models", headers=header)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_files_where_there_are_none(server, image_url):
    answer = httpx.get(f"{server.url}/v1/files", headers=server.headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "files_off")
    assert "--files-dir" in answer.json()["error"]["message"]
    part = {"type": "image_url", "image_url": {"file_id": "file-image-0"}}
    answer = server.post({"messages": [{"role": "user", "content": [part]}]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "file_not_found")
