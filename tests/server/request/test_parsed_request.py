"""A body is checked and taken apart before anything is fetched; it stays as it was sent."""

import copy

import pytest

from saccade.media.errors import ControlError
from saccade.server.core.errors import InvalidRequest
from saccade.server.core.settings import RequestLimits
from saccade.server.request.field_checks import EngineOptions
from saccade.server.request.parsed_request import (
    CHAT,
    COMPLETION,
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
        ("who knows", {"messages": []}, None),
    ],
)  # fmt: skip
def test_the_field_that_an_error_only_speaks_of(message, body, name):
    assert field_named(message, body) == name
