"""A body is checked and taken apart before anything is fetched; it stays as it was sent."""

import copy

import pytest
from vllm.v1.serial_utils import MsgpackEncoder

from saccade.media.errors import ControlError
from saccade.server.core.errors import InvalidRequest
from saccade.server.core.settings import RequestLimits
from saccade.server.engine.errors import api_error
from saccade.server.request.field_checks import EngineOptions
from saccade.server.request.parsed_request import (
    CHAT,
    COMPLETION,
    DETOKENIZATION,
    RESPONSE,
    TOKENIZATION,
    parse_request,
)
from saccade.server.request.spellings import field_named

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "max_pixels": 784}}
VIDEO = {"type": "video", "video": "https://example.org/a.mp4", "fps": 2.0}


def chat(*parts, **fields):
    return {"messages": [{"role": "user", "content": list(parts)}], **fields}


def parse(body, form=CHAT, **limits):
    return parse_request(body, form, RequestLimits(**limits), EngineOptions())


def test_media_get_names_and_vllm_no_url():
    body = chat(VIDEO, {"type": "text", "text": "a"}, IMAGE, IMAGE, vision={"report": True})
    sent = copy.deepcopy(body)
    request = parse(body, max_answer_tokens=9)
    assert body == sent
    assert request.prompt[0]["content"] == [
        {"type": "video_url", "video_url": None, "uuid": "0"},
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": None, "uuid": "1"},
        {"type": "image_url", "image_url": None, "uuid": "2"},
    ]
    assert [part.path[-3:] for part in request.media] == ["[0]", "[2]", "[3]"]
    assert request.vision.report
    assert set(request.body) == {"messages", "max_tokens"}
    assert request.path_of("image", 1) == "messages[0].content[3]"
    assert request.path_of("video", 0) == "messages[0].content[0]"


def test_more_media_than_the_engine_takes_are_refused_before_they_are_fetched():
    body = chat(IMAGE, VIDEO, IMAGE)
    limits = RequestLimits()
    assert (
        len(
            parse_request(
                body, CHAT, limits, EngineOptions(most_media={"image": 2, "video": 1})
            ).media
        )
        == 3
    )
    with pytest.raises(InvalidRequest, match=r"at most 1 image\(s\)") as error:
        parse_request(body, CHAT, limits, EngineOptions(most_media={"image": 1, "video": 1}))
    assert error.value.param == "messages[0].content[2]"
    with pytest.raises(InvalidRequest, match="at most 0 video") as error:
        parse_request(body, CHAT, limits, EngineOptions(most_media={"image": 2, "video": 0}))
    assert error.value.param == "messages[0].content[1]"


def test_names_count_on_across_messages_and_outputs():
    messages = [{"role": "user", "content": [{**IMAGE, "image_url": "data:,a"}]}] * 2
    output = {"type": "function_call_output", "call_id": "a", "output": [VIDEO]}
    request = parse({"input": [*messages, output]}, RESPONSE)
    content = [item.get("content") or item["output"] for item in request.prompt]
    assert [parts[0]["uuid"] for parts in content] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("body", "form", "param"),
    [
        (chat({**IMAGE, "uuid": "0"}), CHAT, "messages[0].content[0].uuid"),
        (chat({**VIDEO, "uuid": "0"}), TOKENIZATION, "messages[0].content[0].uuid"),
        (chat({"type": "image_url", "uuid": "0"}), CHAT, "messages[0].content[0].image_url"),
        (chat({"type": "text", "text": "a", "image_url": "b"}), CHAT, "messages[0].content[0]"),
        (chat(IMAGE, truncate_prompt_tokens=5), CHAT, "truncate_prompt_tokens"),
        (chat(IMAGE, priority=1), CHAT, "priority"),
        (chat(vllm_xargs={"ec_transfer_params": {"a": 1}}), CHAT, "vllm_xargs.ec_transfer_params"),
        (chat(vision={"reports": True}), CHAT, "vision.reports"),
        ({"input": "a", "previous_response_id": "b"}, RESPONSE, "previous_response_id"),
        ({"input": "a", "tools": [{"type": "mcp"}]}, RESPONSE, "tools[0].type"),
        ({"prompt": "a", "prompt_embeds": "b"}, COMPLETION, "prompt_embeds"),
    ],
)
def test_what_is_refused_is_named(body, form, param):
    with pytest.raises((InvalidRequest, ControlError)) as refused:
        parse(body, form)
    assert refused.value.param.startswith(param)


@pytest.mark.parametrize(
    ("prompt", "count"), [("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2), ([], 1)]
)
def test_how_many_prompts(prompt, count):
    assert parse({"prompt": prompt}, COMPLETION).completions == count
    assert parse({"prompt": prompt, "n": 2}, COMPLETION).completions == 2 * count
    assert parse(chat(IMAGE)).completions == 1


def test_fields_of_a_wrong_type_are_not_counted():
    assert parse(chat(IMAGE, n=True, max_tokens="many")).completions == 1
    assert parse(chat(IMAGE, max_tokens="many")).answer_tokens is None
    body = chat(IMAGE, n=3, max_tokens=50, max_completion_tokens=None)
    assert (parse(body).completions, parse(body).answer_tokens) == (3, 50)


def test_unknown_fields_are_told_or_refused():
    body = chat({"type": "text", "text": "a", "emphasis": 1}, num_ctx=5)
    body["messages"][0]["mood"] = "good"
    request = parse(body)
    assert "num_ctx" not in request.body
    told = ("num_ctx", "messages[0].mood", "messages[0].content[0].emphasis")
    assert [warning.partition(" ")[0] for warning in request.warnings] == list(told)
    with pytest.raises(InvalidRequest) as refused:
        parse(body, refuse_unknown=True)
    assert refused.value.param == "num_ctx"


def test_a_body_has_a_bounded_number_of_fields():
    served = len(chat(IMAGE))
    assert len(parse(chat(IMAGE, **{f"x{i}": 1 for i in range(256 - served)})).warnings) > 200
    with pytest.raises(InvalidRequest, match="257 fields; 256 is the most"):
        parse(chat(IMAGE, **{f"x{i}": 1 for i in range(257 - served)}))


def test_an_error_of_vllms_is_put_where_the_client_wrote_it():
    request = parse(chat(guided_regex="a", max_completion_tokens=5))
    assert request.path_sent("structured_outputs.regex") == "guided_regex"
    assert request.path_sent("max_tokens") == "max_completion_tokens"
    assert request.path_sent("[0]") == "messages"
    assert parse(chat(max_tokens=5)).path_sent("max_tokens") == "max_tokens"
    assert parse({"prompt": "a"}, COMPLETION).path_sent("messages") == "prompt"
    request = parse({"input": "a", "max_output_tokens": 5}, RESPONSE)
    assert request.path_sent("messages") == "input"
    assert request.path_sent("max_tokens") == "max_output_tokens"


@pytest.mark.parametrize(
    ("message", "body", "name"),
    [
        ("Token id 9 is out of vocabulary", {"prompt": [9]}, "prompt"),
        ("`min_count` must be 2", {"tools": [], "x": {"min_count": 1}}, "x"),
        ("Invalid grammar specification.", {"structured_outputs": {}}, "structured_outputs"),
        ("The decoder prompt cannot be empty", {"messages": []}, "messages"),
        ("Forced tool choice must resolve to one", {"tools": [], "tool_choice": {}}, "tool_choice"),
        ("beam_width must be at least 1, got 0.", {"n": 0, "prompt": "a"}, "n"),
        ("who knows", {"messages": []}, None),
    ],
)  # fmt: skip
def test_the_field_that_an_error_only_speaks_of(message, body, name):
    assert field_named(message, body) == name


TEXT = {"type": "text", "text": "a"}
URL = "data:image/png;base64,AA"
PART = "messages[0].content[0].file.file_url"
CALL = {"name": "f", "arguments": "{}"}


@pytest.mark.parametrize(
    "body",
    [
        chat(IMAGE, TEXT, visoin=None, models=None, num_frames=None),
        chat({**IMAGE, "_meta": None, "text": "", "video_url": None, "uuid": None}),
        chat({**IMAGE, "detail": None}, {**TEXT, "image_url": None, "video_url": {}, "audio": ""}),
        chat({"type": "image_url", "image_url": {"url": URL, "detail": "low"}, "detail": None}),
        chat(IMAGE, vision={"report": True, "coordinates": None}),
        chat({"type": "image", "image_url": {"url": URL}}),
        chat({"type": "image", "image": {"url": f" {URL}"}}),
        chat({"type": "image_url", "image_url": {"data": "AA", "mime_type": "image/png"}}),
        chat({"type": "image_url", "url": URL}),
        chat({"type": "image", "data": f"\n{URL}"}),
        chat(VIDEO, media_io_kwargs={"video": {"num_frames": -1}, "image": {}}),
        chat(IMAGE, reasoning={"effort": "low"}, thinking={"type": "disabled"}),
        chat(IMAGE, structured_outputs={"regex": "a", "json": None, "json_object": False}),
        chat(IMAGE, grammar="", guided_regex="", guided_json={"type": "object"}),
        chat(IMAGE, guided_json={"type": "object"}, response_format={"type": "text"}),
    ],
)
def test_null_and_nothing_are_not_there(body):
    sent = copy.deepcopy(body)
    request = parse(body)
    assert body == sent
    assert len(request.media) == 1
    assert request.warnings == ()


def test_calls_of_streams_put_together_have_nulls():
    call = {"id": None, "type": "", "index": 0, "function": CALL}
    messages = [
        {"role": "user", "content": "a", "attachments": [], "files": None},
        {"role": "assistant", "content": None, "tool_calls": [call], "function_call": None},
        {"role": "tool", "content": "b", "tool_call_id": "call_0"},
    ]
    (read,) = parse({"messages": messages}).prompt[1]["tool_calls"]
    assert read == {"id": "call_0", "type": "function", "index": 0, "function": CALL}


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"role": "user"}, "content"),
        ({"role": "tool", "content": None}, "content"),
        ({"role": None, "content": "a"}, "role"),
        ({"role": "User", "content": "a"}, "role"),
        ({"role": "", "content": "a"}, "role"),
        ({"role": "assistant", "content": "a", "prefix": True}, "prefix"),
        ({"role": "assistant", "content": "a", "partial": True}, "partial"),
        ({"role": "user", "content": "a", "experimental_attachments": [{}]}, "experimental"),
    ],
)
def test_messages_that_do_not_say_what_they_mean(message, field):
    with pytest.raises(InvalidRequest) as refused:
        parse({"messages": [message]})
    assert refused.value.param.startswith(f"messages[0].{field}")


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"role": "user", "content": "a", "images": ["AA"]}, ".images"),
        ({"role": "user", "content": "a", "fps": 1}, ".fps"),
        ({"type": "function_call", "call_id": "1", "name": "f", "arguments": None}, ".arguments"),
        (
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": '{"a": "\\ud800"}'},
            ".arguments",
        ),
        ({"type": "function_call", "call_id": "1", "arguments": "{}"}, ""),
        ({"type": "function_call", **CALL}, ".call_id"),
        ({"type": "custom_tool_call", "call_id": "1", "name": "f"}, ".input"),
    ],
)
def test_items_that_vllm_would_misunderstand(item, field):
    with pytest.raises((InvalidRequest, ControlError)) as refused:
        parse({"input": [item]}, RESPONSE)
    assert refused.value.param == f"input[0]{field}"


def test_items_as_clients_replay_them():
    spoken = [{"type": "output_text", "text": text, "annotations": []} for text in "ab"]
    items = [
        {"type": None, "role": "user", "content": "a", "id": None, "mood": "good"},
        {"type": "reasoning", "encrypted_content": None},
        {"type": "message", "id": "1", "status": "completed", "phase": "final_answer"}
        | {"role": "assistant", "content": spoken},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{"},
    ]
    request = parse({"input": items}, RESPONSE)
    assert request.prompt == [
        {"type": "message", "role": "user", "content": "a"},
        {"type": "reasoning", "id": "reasoning", "summary": []},
        {"type": "message", "role": "assistant", "content": "ab"},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": ""},
    ]
    assert [warning.partition(" ")[0] for warning in request.warnings] == [
        "input[0].mood",
        "input[3].arguments",
    ]


@pytest.mark.parametrize("n", [" 17 ", "+17", "1_7", 17.0, "17.0"])
def test_a_number_is_bounded_however_it_is_written(n):
    with pytest.raises(InvalidRequest) as refused:
        parse(chat(IMAGE, n=n))
    assert refused.value.param == "n"
    with pytest.raises(InvalidRequest) as refused:
        parse(chat(IMAGE, max_tokens=n), max_answer_tokens=16)
    assert refused.value.param == "max_tokens"
    assert parse({"prompt": "a", "n": 3.0, "max_tokens": "5"}, COMPLETION).completions == 3


def test_prompts_times_answers_are_bounded_in_other_spellings():
    with pytest.raises(InvalidRequest) as refused:
        parse({"prompt": ["a"] * 10, "n": 2.0}, COMPLETION)
    assert refused.value.param == "n"


@pytest.mark.parametrize(
    "form",
    [
        {"type": "json_object", "schema": {"type": "object"}},
        {"type": "json_schema", "schema": {"type": "object"}, "strict": True},
        {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}},
        {"type": "json_object", "json_schema": {"name": "schema", "schema": {"type": "object"}}},
    ],
)
def test_a_schema_is_found_where_other_servers_have_it(form):
    read = parse(chat(IMAGE, response_format=form)).body["response_format"]
    held = {"name": "schema", "schema": {"type": "object"}}
    assert read == {"type": "json_schema", "json_schema": held}
    wrapped = parse(chat(IMAGE, json_schema={"name": "a", "schema": {"type": "object"}}))
    assert wrapped.body["structured_outputs"] == {"json": {"type": "object"}}


@pytest.mark.parametrize(
    ("body", "form", "param"),
    [
        (
            chat(response_format={"type": "json_schema", "json_schema": {"name": "a"}}),
            CHAT,
            "response_format.json_schema.schema",
        ),
        (chat(structured_outputs={}), CHAT, "structured_outputs"),
        (chat(structured_outputs={"json_object": False}), CHAT, "structured_outputs"),
        (chat(functions=[{"name": ""}]), CHAT, "functions[0].name"),
        (
            chat(tools=[{"function": {"name": "f", "inputSchema": {}}}]),
            CHAT,
            "tools[0].function.inputSchema",
        ),
        (chat(web_search_options={}), CHAT, "web_search_options"),
        (
            {"input": "a", "tool_choice": {"type": "allowed_tools", "mode": "required"}},
            RESPONSE,
            "tool_choice.type",
        ),
        (chat(truncate_prompt_tokens=5), TOKENIZATION, "truncate_prompt_tokens"),
        ({"tokens": [1], "skip_special_tokens": True}, DETOKENIZATION, "skip_special_tokens"),
        (chat(visoin={"report": True}), CHAT, "visoin"),
        (chat(vision=None, visoin={"report": True}), CHAT, "visoin"),
        (chat({"type": "file", "file": {"file_url": "https://a.example/a.pdf"}}), CHAT, PART),
    ],
)
def test_wishes_that_would_be_dropped_are_named(body, form, param):
    with pytest.raises(InvalidRequest) as refused:
        parse(body, form)
    assert refused.value.param == param


def test_what_routers_and_other_routes_take_is_no_misspelling():
    routed = chat(IMAGE, model="a", models=["a", "b"], provider={"sort": "price"}, reasoning={})
    assert parse(routed).warnings == ()
    assert parse({"prompt": "a", "verbosity": "low"}, COMPLETION).warnings


def test_functions_are_counted():
    request = parse(chat(TEXT, functions=[{"name": "f"}]), TOKENIZATION)
    assert request.body["tools"] == [{"type": "function", "function": {"name": "f"}}]


def test_what_is_lacking_is_called_as_it_would_be_sent():
    assert parse({}).path_sent("messages") == "messages"
    assert parse({}, RESPONSE).path_sent("input") == "input"
    assert parse({"prompt": "a"}, TOKENIZATION).path_sent("messages") == "prompt"


@pytest.mark.parametrize(
    ("name", "value"), [("top_k", 2**64), ("seed", -(2**63) - 1), ("logit_bias", {"5": 2**64})]
)
def test_numbers_that_cannot_be_sent_to_the_engine_are_named(name, value):
    with pytest.raises(InvalidRequest, match="64 bits") as error:
        parse(chat(IMAGE, **{name: value}))
    assert error.value.param == name
    parse(chat(IMAGE, top_k=2**64 - 1))


@pytest.mark.parametrize("name", ["surely_unknown", "", "of_a_long_name" * 8])
def test_what_an_unknown_field_holds_is_nobodys_mistake(name):
    request = parse(chat(IMAGE, **{name: {"a": 2**64}}))
    assert name not in request.body
    assert request.warnings == (f"{name[:64]} is an unknown field, and was left out",)


def test_what_the_engine_cannot_be_sent_is_a_mistake_of_the_request():
    with pytest.raises(OverflowError) as overflow:
        MsgpackEncoder().encode({"top_k": 2**64})
    error = api_error(overflow.value)
    assert (error.status, error.message) == (400, "a number in the request has more than 64 bits")
