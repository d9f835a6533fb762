"""Requests as people write them: honoured, a known hint, or refused by the path of the field."""

import base64
import gzip
import json

import httpx
import pytest
from people_send import (
    COLOUR,
    EVENTS_URL,
    GREEN,
    SCHEMA,
    SEEN,
    SHAPES,
    SHAPES_URL,
    asked,
    image,
    json_schema,
    system,
    video,
)

PART = "messages[0].content[0]"


@pytest.fixture
def answered(server):
    """Posts a body and returns the text of its answer."""

    def post(body):
        answer = server.post(body)
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"][0]["message"]["content"]

    return post


@pytest.fixture
def refused(server):
    """Posts a body; returns the path and the message of its refusal."""

    def post(body, path="/v1/chat/completions", status=400):
        answer = server.post(body, path)
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        for words in ("NoneType", "Traceback", "object has no", "not subscriptable", "pydantic"):
            assert words not in error["message"]
        return error["param"], error["message"]

    return post


# Roles and tools.


@pytest.mark.parametrize("role", ["system", "developer"])
def test_an_image_of_the_system_beside_tools(server, role):
    shown = [{"type": "text", "text": "Like this:"}, image()]
    messages = [{"role": role, "content": shown}, {"role": "user", "content": COLOUR}]
    body = {"model": "demo", "messages": messages, "tools": [SEEN], "max_tokens": 8}
    answer = server.post(body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["prompt_tokens_details"]["image_tokens"] > 0
    plan = server.post(body, "/v1/vision/plan").json()
    assert plan["prompt_tokens"] == answer.json()["usage"]["prompt_tokens"]
    shown = [{"type": "input_text", "text": "Like this:"}]
    shown.append({"type": "input_image", "image_url": SHAPES_URL})
    items = [{"role": role, "content": shown}, {"role": "user", "content": COLOUR}]
    tool = {"type": "function", **SEEN["function"]}
    response = {"model": "demo", "input": items, "tools": [tool], "max_output_tokens": 8}
    answer = server.post(response, "/v1/responses")
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["input_tokens_details"]["image_tokens"] > 0


@pytest.mark.parametrize("choice", [None, "auto", "required", {"type": "function", "name": "a"}])
@pytest.mark.parametrize(
    ("tool", "place"),
    [
        ({"type": "function", "name": "look", "parameters": {}}, ""),
        ({}, ""),
        ({"type": "mcp", "server_label": "a", "server_url": "https://example.org"}, ".type"),
        ({"type": "web_search"}, ".type"),
        ({"type": 5, "function": {"name": "a"}}, ".type"),
        ({"function": {}}, ".function.name"),
        ({"function": {"name": ""}}, ".function.name"),
        ({"function": {"name": None, "parameters": {}}}, ".function.name"),
        ({"function": "look"}, ""),
        ({"function": {"name": "a", "parameters": "none"}}, ".function.parameters"),
        ("look", ""),
        (None, ""),
    ],
)
def test_tools_without_what_they_need(refused, tool, place, choice):
    for path in ("/v1/chat/completions", "/v1/vision/plan", "/tokenize"):
        body = asked(tools=[tool], tool_choice=choice)
        assert refused(body, path)[0] == f"tools[0]{place}"


@pytest.mark.parametrize("tools", ["look", {"name": "look"}, 5, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/tokenize"])
def test_tools_that_are_no_list(refused, tools, path):
    body = {"model": "demo", "input": "a", "tools": tools}
    if path != "/v1/responses":
        body = asked(tools=tools)
    param, message = refused(body, path)
    assert param == "tools"
    assert "list" in message


def test_tools_of_responses_without_a_name(refused):
    for tool in ({"type": "function"}, {"type": "function", "name": 5}, {"type": "custom"}):
        body = {"model": "demo", "input": "a", "tools": [tool]}
        assert refused(body, "/v1/responses")[0] == "tools[0].name"


@pytest.mark.parametrize(
    "arguments", [None, 5, "[1]", "null", '"a"', r'{"a": "\ud800"}', {"a": "b"}, "{", ""]
)
def test_arguments_of_calls(server, arguments):
    function = {"name": "look", "arguments": arguments}
    messages = [
        {"role": "user", "content": "Look."},
        {
            "role": "assistant",
            "tool_calls": [{"id": "1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "Nothing."},
    ]
    answer = server.post({"model": "demo", "messages": messages, "max_tokens": 1})
    path = "messages[1].tool_calls[0].function.arguments"
    if arguments in ("", "{") or isinstance(arguments, dict):
        assert answer.status_code == 200, answer.text
        # What a model was cut off in is told, and the conversation goes on.
        warnings = answer.json().get("vision", {}).get("warnings", [])
        assert [path in warning for warning in warnings] == [True] * (arguments == "{")
    else:
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, path)


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_a_schema_of_which_no_grammar_comes(refused, choice):
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}
    function = {"name": "look", "parameters": schema}
    body = asked(tools=[SEEN, {"type": "function", "function": function}], tool_choice=choice)
    param, message = refused(body)
    assert param == "tools[1].function.parameters"
    assert "none" in message
    body = {"model": "demo", "input": "a", "tools": [{"type": "function", **function}]}
    assert refused(body, "/v1/responses")[0] == "tools[0].parameters"
    body = asked(functions=[function], function_call="auto")
    assert refused(body)[0] == "functions[0].parameters"
    param, message = refused(asked(guided_json=schema))
    assert param == "guided_json"
    assert ".cc" not in message
    assert "<path>" not in message


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}, "required": ["a"]},
    ],
    ids=["at once", "after a key"],
)
def test_a_grammar_that_no_text_obeys(refused, schema):
    param, message = refused(asked(structured_outputs={"json": schema}))
    assert param == "structured_outputs"
    assert "no token fits" in message
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    assert refused(asked(response_format=form))[0] == "response_format"
    assert refused(asked(guided_json=schema))[0] == "guided_json"
    text = {"format": {"type": "json_schema", "name": "a", "schema": schema}}
    assert refused({"model": "demo", "input": "a", "text": text}, "/v1/responses")[0] == "text"
    body = {"model": "demo", "prompt": "a", "structured_outputs": {"json": schema}}
    assert refused(body, "/v1/completions")[0] == "structured_outputs"


def test_a_stream_whose_grammar_comes_to_an_end(server):
    schema = {"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}, "required": ["a"]}
    answer = server.post(asked(guided_json=schema, stream=True))
    *_, error, done = answer.text.strip().split("\n\n")
    assert json.loads(error.removeprefix("data: "))["error"]["param"] == "guided_json"
    assert done == "data: [DONE]"


def test_items_that_clients_replay(server):
    spoken = [{"type": "output_text", "text": text, "annotations": []} for text in ("A ", "star.")]
    call = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{"}
    items = [
        {"type": "message", "role": "user", "content": "Look."},
        {"type": "reasoning", "summary": [], "encrypted_content": None},
        {"type": "message", "role": "assistant", "id": "m", "status": "completed"}
        | {"phase": "final_answer", "content": spoken},
        {**call, "id": "fc_1", "status": "completed"},
        {"type": "function_call_output", "call_id": "1", "output": "b"},
    ]
    simple = [items[0], {"role": "assistant", "content": "A star."}, {**call, "arguments": "{}"}]
    used = []
    for one in (items, [*simple, items[-1]]):
        body = {"model": "demo", "input": one, "max_output_tokens": 1}
        answer = server.post(body, "/v1/responses")
        assert answer.status_code == 200, answer.text
        used.append(answer.json()["usage"]["input_tokens"])
    assert used[0] == used[1]


def test_functions_of_2023_in_history(server):
    call = {"name": "look", "arguments": '{"at": "all"}'}
    old = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "look", "content": "A star."},
    ]
    new = [
        old[0],
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": "1", "content": "A star."},
    ]
    prompts = [server.post({"messages": one}, "/tokenize").json()["tokens"] for one in (old, new)]
    assert prompts[0] == prompts[1]
    offered = {"messages": old[:1], "functions": [SEEN["function"]]}
    assert server.post(offered, "/v1/vision/plan").json() == (
        server.post({"messages": old[:1], "tools": [SEEN]}, "/v1/vision/plan").json()
    )


# The last message goes on.


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("content", ["The star is", [{"type": "text", "text": "The star is"}]])
def test_an_echo_of_the_message_that_goes_on(server, stream, content):
    body = asked(image(), echo=True, continue_final_message=True, add_generation_prompt=False)
    body["messages"].append({"role": "assistant", "content": content})
    body = {**body, "max_tokens": 2, "stream": stream}
    if not stream:
        answer = server.post(body)
        assert answer.status_code == 200, answer.text
        text = answer.json()["choices"][0]["message"]["content"]
    else:
        text = ""
        with server.stream(body) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    chunk = json.loads(line.removeprefix("data: "))
                    text += "".join(c["delta"].get("content") or "" for c in chunk["choices"])
    assert text.startswith("The star is")


# Fields by other names.


@pytest.mark.parametrize(
    ("fields", "texts"),
    [
        ({"guided_choice": ["red", "blue"]}, ("red", "blue")),
        ({"guided_regex": "(red|blue)"}, ("red", "blue")),
        ({"regex": "(red|blue)"}, ("red", "blue")),
        ({"guided_grammar": 'root ::= "red" | "blue"'}, ("red", "blue")),
        ({"grammar": 'root ::= "red" | "blue"'}, ("red", "blue")),
        ({"guided_json": {"const": "blue"}}, ('"blue"',)),
        ({"guided_json": '{"const": "blue"}'}, ('"blue"',)),
        ({"json_schema": {"const": "blue"}}, ('"blue"',)),
        ({"format": {"const": "blue"}}, ('"blue"',)),
        ({"format": ""}, (GREEN,)),
    ],
    ids=str,
)
def test_constraints_by_other_names_hold(answered, fields, texts):
    assert answered(asked(image(), **fields)) in texts


def test_ollamas_format_json(answered):
    text = answered(asked(image(), format="json", max_tokens=64))
    assert text.startswith("{")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"guided_json": SCHEMA, "guided_regex": "a"}, "guided_regex"),
        ({"guided_json": SCHEMA, "structured_outputs": {"json": SCHEMA}}, "guided_json"),
        ({"guided_json": SCHEMA, "response_format": json_schema()}, "guided_json"),
        ({"guided_choice": "red"}, "guided_choice"),
        ({"guided_regex": ["a"]}, "guided_regex"),
        ({"guided_regex": "("}, "guided_regex"),
        ({"guided_regex": "a" * 70_000}, "guided_regex"),
        ({"guided_whitespace_pattern": " "}, "guided_whitespace_pattern"),
        ({"guided_decoding_backend": "outlines"}, "guided_decoding_backend"),
        ({"format": "yaml"}, "format"),
        ({"functions": "look"}, "functions"),
        ({"functions": [{"parameters": {}}]}, "functions[0].name"),
        ({"functions": [SEEN["function"]], "tools": [SEEN]}, "functions"),
        ({"function_call": {"name": "seen"}}, "function_call"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"enable_search": True}, "enable_search"),
        ({"structured_outputs": {"json": SCHEMA, "whitespace_pattern": "x"}},
         "structured_outputs.whitespace_pattern"),
        ({"structured_outputs": {"json": SCHEMA, "disable_any_whitespace": False}},
         "structured_outputs.disable_any_whitespace"),
        ({"structured_outputs": {"jsn": SCHEMA}}, "structured_outputs.jsn"),
        ({"visoin": {"report": True}}, "visoin"),
        ({"max_token": 5}, "max_token"),
        ({"respose_format": {"type": "json_object"}}, "respose_format"),
        ({"max_completion_tokens": -1, "max_tokens": None}, "max_completion_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_output_tokens": 5}, "max_output_tokens"),
        ({"input": "a"}, "input"),
        ({"images": [SHAPES]}, "images"),
        ({"image": SHAPES}, "image"),
        ({"multi_modal_data": {"image": SHAPES}}, "multi_modal_data"),
        ({"video_start": 1.0}, "video_start"),
        ({"max_pixels": "many"}, "max_pixels"),
        ({"fps": -1}, "fps"),
        ({"fps": 1, "nframes": 4}, "fps"),
        ({"vl_high_resolution_images": "yes"}, "vl_high_resolution_images"),
        ({"mm_processor_kwargs": {"do_resize": False}}, "mm_processor_kwargs.do_resize"),
        ({"extra_body": {"top_k": 1}}, "extra_body"),
        ({"documents": [{"text": "a"}]}, "documents"),
        ({"options": {"temperature": 0}}, "options"),
    ],
    ids=str,
)  # fmt: skip
def test_fields_that_are_believed_in_are_refused_by_name(refused, fields, param):
    body = asked(image(), **fields)
    assert refused(body)[0] == param
    if not param.startswith(("guided_regex", "guided_choice")):  # which the engine compiles
        assert refused(body, "/v1/vision/plan")[0] == param


def test_an_unknown_field_is_told(server):
    body = asked(image(), num_ctx=4096, mirostat=2, max_tokens=1)
    told = ["num_ctx is an unknown field", "mirostat is an unknown field"]
    answer = server.post(body).json()
    assert [any(one in text for text in answer["vision"]["warnings"]) for one in told] == [True] * 2
    with server.stream({**body, "stream": True}) as streamed:
        first = next(line for line in streamed.iter_lines() if line.startswith("data: {"))
    assert (
        json.loads(first.removeprefix("data: "))["vision"]["warnings"]
        == (answer["vision"]["warnings"])
    )
    assert server.post(body, "/v1/vision/plan").json()["warnings"] == answer["vision"]["warnings"]
    for path, other in (
        ("/v1/responses", {"input": "a", "max_output_tokens": 1}),
        ("/v1/completions", {"prompt": "a", "max_tokens": 1}),
        ("/tokenize", {"prompt": "a"}),
        ("/detokenize", {"tokens": [1]}),
    ):
        answer = server.post({"model": "demo", "num_ctx": 5, **other}, path)
        assert answer.status_code == 200, answer.text
        assert "num_ctx" in answer.json()["vision"]["warnings"][0]
    assert "num_ctx is an unknown field" in server.log.read_text()


def test_hints_are_no_unknown_fields(server):
    hints = {"user": "a", "metadata": {"a": "b"}, "store": True, "service_tier": "auto"}
    hints |= {"prompt_cache_key": "a", "prediction": None, "reasoning_effort": "low"}
    answer = server.post(asked(image(), **hints, max_tokens=1))
    assert answer.status_code == 200, answer.text
    assert "vision" not in answer.json()


# Controls of the whole request.


def planned(server, body):
    answer = server.post(body, "/v1/vision/plan")
    assert answer.status_code == 200, answer.text
    return answer.json()["media"]


def test_controls_of_the_whole_request_count_for_media_that_say_nothing(server):
    small = {"type": "image_url", "image_url": {"url": SHAPES_URL}}
    sized = {**small, "resized_width": 112, "resized_height": 112}
    own = {**small, "max_pixels": 112 * 112}
    for fields in (
        {"max_pixels": 56 * 56},
        {"mm_processor_kwargs": {"max_pixels": 56 * 56}},
    ):
        seen = planned(server, asked(small, sized, own, **fields))
        areas = [one["resized_size"][0] * one["resized_size"][1] for one in seen]
        assert areas[0] <= 56 * 56 < areas[2] <= 112 * 112
        assert seen[1]["resized_size"] == [112, 112]
    for fields in ({"fps": 1}, {"mm_processor_kwargs": {"fps": [1.0]}}):
        first, second, frames = planned(
            server,
            asked(
                video(), video(nframes=6), {"type": "video", "video": [SHAPES_URL] * 4}, **fields
            ),
        )
        assert first["sampled_fps"] == pytest.approx(1, rel=0.1)
        assert (len(second["frame_times"]), len(frames["frame_times"])) == (6, 4)
    body = {"messages": asked(small)["messages"], "max_pixels": 56 * 56}
    few = server.post(body, "/tokenize").json()["count"]
    del body["max_pixels"]
    assert few < server.post(body, "/tokenize").json()["count"]


def test_a_control_of_the_whole_request_reaches_responses(server):
    part = {"type": "input_image", "image_url": SHAPES_URL}
    body = {"model": "demo", "input": [{"role": "user", "content": [part]}], "max_pixels": 56 * 56}
    body |= {"max_output_tokens": 1, "vision": {"report": True}}
    answer = server.post(body, "/v1/responses").json()
    assert answer["vision"]["media"][0]["tokens"] <= 4


def test_vl_high_resolution_images_and_original_make_nothing_smaller(server):
    plain = planned(server, asked(image()))[0]["resized_size"]
    for body in (
        asked(image(), vl_high_resolution_images=True),
        asked(image(), vl_high_resolution_images=False),
        asked(image(detail="original")),
    ):
        assert planned(server, body)[0]["resized_size"] == plain


@pytest.mark.parametrize("name", ["max_pixels", "fps", "vl_high_resolution_images", "detail"])
def test_controls_beside_a_message_or_a_text_are_refused(refused, name):
    body = asked(image())
    body["messages"][0][name] = 5
    assert refused(body)[0] == f"messages[0].{name}"
    body = asked(image())
    body["messages"][0]["content"][1][name] = 5
    assert refused(body)[0] == f"messages[0].content[1].{name}"


# Where images stand, and how they are written.


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


@pytest.mark.parametrize(
    "part",
    [
        image(beside={"cache_control": {"type": "ephemeral"}}),
        image(cache_control={"type": "ephemeral"}),
        image(format="image/jpeg"),
        image(beside={"format": "image/jpeg"}),
        image(detail="original"),
        image(beside={"id": "a", "index": 0}),
        {"type": "image", "image": SHAPES_URL, "cache_control": {"type": "ephemeral"}},
        {"type": "image", "source": {"type": "url", "url": SHAPES_URL}},
    ],
    ids=lambda part: ",".join(part),
)
def test_hints_beside_an_image(answered, part):
    assert answered(asked(part)) == GREEN


def test_hints_beside_a_video_and_a_text(server):
    hint = {"cache_control": {"type": "ephemeral"}}
    body = asked(video(**hint))
    body["messages"][0]["content"][1] |= hint
    answer = server.post(body, "/v1/vision/plan")
    assert (answer.status_code, answer.json()["warnings"]) == (200, [])


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
