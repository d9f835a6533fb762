"""Real clients, as their default requests go over the wire: all answered, and rightly."""

import json

import httpx
import openai
import pytest
from people_send import (
    AT,
    CALLS,
    CHAT,
    EVENTS_URL,
    GREEN,
    LEAVES,
    ORDERS,
    OWN_SIZE,
    RESPONSES,
    SCHEMAS,
    SHAPES_URL,
    VIDEOS,
    asked,
    image,
    in_order,
    video,
)


def told(server, body, path="/v1/chat/completions"):
    """The whole answer's text, from a stream too."""
    if not body.get("stream"):
        answer = server.post(body, path)
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"][0]["message"]["content"]
    text = ""
    with server.stream(body, path) as answer:
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                chunk = json.loads(line.removeprefix("data: "))
                assert "error" not in chunk, chunk
                text += "".join(c["delta"].get("content") or "" for c in chunk["choices"])
    return text


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", CHAT)
def test_what_a_client_sends_about_an_image(server, name, order):
    text = told(server, in_order(CHAT[name], order))
    if "response_format" in CHAT[name]:
        assert json.loads(text) == {"colour": GREEN}
    else:
        assert text == GREEN


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", VIDEOS)
def test_what_a_client_sends_about_a_video(server, name, order):
    body = {**in_order(VIDEOS[name], order), "vision": {"report": True}}
    answer = server.post(body)
    assert answer.status_code == 200, answer.text
    (seen,) = answer.json()["vision"]["media"]
    assert seen["kind"] == "video"
    assert seen["sampled_fps"] == pytest.approx(2, rel=0.1)
    if seen["resized_size"] == [140, 112]:
        assert answer.json()["choices"][0]["message"]["content"] == AT
    else:
        assert name == "dashscope"


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", RESPONSES)
def test_what_a_client_sends_to_responses(server, name, order):
    answer = server.post(in_order(RESPONSES[name], order), "/v1/responses")
    assert answer.status_code == 200, answer.text
    (message,) = answer.json()["output"]
    assert message["content"][0]["text"] == GREEN


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", CALLS)
def test_a_forced_call_tells_what_is_seen(server, name, order, stream):
    body = {**in_order(CALLS[name], order), "max_tokens": 64}
    if not stream:
        answer = server.post(body)
        assert answer.status_code == 200, answer.text
        (call,) = answer.json()["choices"][0]["message"]["tool_calls"]
        function, arguments = call["function"]["name"], call["function"]["arguments"]
    else:
        function = arguments = ""
        with server.stream({**body, "stream": True}) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    for choice in json.loads(line.removeprefix("data: "))["choices"]:
                        for call in choice["delta"].get("tool_calls") or ():
                            function += call["function"].get("name") or ""
                            arguments += call["function"].get("arguments") or ""
    assert function == "seen"
    assert json.loads(arguments) == {"colour": GREEN}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", SCHEMAS)
def test_json_ends_and_has_no_white_space(server, name, order):
    text = told(server, {**in_order(SCHEMAS[name], order), "max_tokens": 64})
    assert json.loads(text) == {"colour": GREEN}
    assert text == json.dumps(json.loads(text), separators=(",", ":"))


def test_guidellm_finds_the_text_alone(server):
    usage = server.post(asked(image())).json()["usage"]
    details = usage["prompt_tokens_details"]
    assert details["image_tokens"] > 0
    assert details["prompt_tokens"] + details["image_tokens"] == usage["prompt_tokens"]


def test_models_by_the_client(server, client):
    (model,) = client.models.list().data
    assert client.models.retrieve(model.id).max_model_len == model.max_model_len
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("gpt-9/x")
    assert missing.value.code == "model_not_found"
    assert missing.value.param == "model"
    listed = httpx.get(f"{server.url}/v1/models/", headers=server.headers)
    assert listed.json()["data"][0]["id"] == model.id


@pytest.mark.parametrize("path", ["/health", "/ready", "/version", "/v1/models", "/v1/models/demo"])
def test_head_is_get_without_a_body(server, path):
    got = httpx.get(server.url + path, headers=server.headers)
    head = httpx.head(server.url + path, headers=server.headers)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]


def test_media_io_kwargs_count_for_videos_that_say_nothing_else(server):
    def frames(part, **loading):
        body = asked(part, media_io_kwargs={"video": loading})
        answer = server.post(body, "/v1/vision/plan")
        assert answer.status_code == 200, answer.text
        return len(answer.json()["media"][0]["frame_times"])

    assert frames(video(), num_frames=6) == 6
    assert frames(video(), num_frames=6, fps=1.0) <= 6
    assert frames(video(nframes=4), num_frames=6) == 4
    assert frames(video(fps=1.0), num_frames=40) == frames(video(fps=1.0))
    every = frames(video(), num_frames=10_000)
    assert every > 40  # all there are, as stock gives


@pytest.mark.parametrize(
    ("loading", "param"),
    [
        ({"video": {"num_frames": -2}}, "media_io_kwargs.video.num_frames"),
        ({"video": {"num_frames": "all"}}, "media_io_kwargs.video.num_frames"),
        ({"video": {"backend": "opencv"}}, "media_io_kwargs.video.backend"),
        ({"image": {"mode": "L"}}, "media_io_kwargs.image"),
        ({"video": 8}, "media_io_kwargs.video"),
        (8, "media_io_kwargs"),
    ],
)
def test_what_media_io_kwargs_cannot_mean_is_refused(server, loading, param):
    answer = server.post(asked(video(), media_io_kwargs=loading), "/v1/vision/plan")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    "file",
    [
        {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"},
        {"filename": "a.pdf", "file_data": "AAAA"},
        {"file_data": "data:;base64,AAAA"},
    ],
)
def test_a_file_of_another_kind_names_where_media_go(server, file):
    answer = server.post(asked({"type": "file", "file": file}), "/v1/vision/plan")
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["param"] == "messages[0].content[0].file.file_data"
    assert "video_url" in error["message"]


def test_a_file_of_responses(server):
    part = {"type": "input_file", "filename": "events.mp4", "file_data": EVENTS_URL, **OWN_SIZE}
    message = {"role": "user", "content": [part, {"type": "input_text", "text": LEAVES}]}
    body = {"model": "demo", "temperature": 0, "input": [message]}
    answer = server.post(body, "/v1/responses")
    assert answer.status_code == 200, answer.text
    assert answer.json()["output"][0]["content"][0]["text"] == AT


def test_tools_that_are_none_are_not_offered(server):
    plain = server.post(asked(image()), "/v1/vision/plan").json()
    for beside in ({}, {"tool_choice": "auto"}, {"tool_choice": "none"}, {"tool_choice": None}):
        answer = server.post(asked(image(), tools=[], **beside), "/v1/vision/plan")
        assert answer.json() == plain
    answer = server.post(asked(image(SHAPES_URL), tools=[], tool_choice="required"))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tool_choice")
