"""Bodies of Anthropic's Messages API: what is wrong is named where the caller wrote it."""

import pytest
from people_send import COLOUR, SHAPES

SHOWN = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/jpeg", "data": SHAPES},
}
TOOL = {"name": "look", "input_schema": {"type": "object", "properties": {}}}
CALL = {"type": "tool_use", "id": "a", "name": "look", "input": {}}
PART = "messages[0].content[0]"


def body(*blocks, **fields):
    message = {"role": "user", "content": [*blocks, {"type": "text", "text": COLOUR}]}
    return {"model": "demo", "max_tokens": 8, "messages": [message], **fields}


def source(**fields):
    return {"type": "image", "source": {"media_type": "image/jpeg", **fields}}


@pytest.fixture
def refused(server):
    def post(sent, path="/v1/messages", status=400):
        answer = server.post(sent, path)
        assert answer.status_code == status, answer.text
        told = answer.json()
        assert told["type"] == "error"
        assert told["error"]["type"] == "invalid_request_error"
        assert told["request_id"] == answer.headers["request-id"]
        return told["error"]["param"]

    return post


@pytest.mark.parametrize(
    ("block", "place"),
    [
        ("text", ""),
        ({"text": "a"}, ".type"),
        ({"type": "text"}, ".text"),
        ({"type": "text", "text": "a", "colour": "red"}, ".colour"),
        ({"type": "document", "source": {"type": "text", "data": "a"}}, ".type"),
        ({"type": "image"}, ".source"),
        ({"type": "image", "source": "a"}, ".source"),
        (source(), ".source.type"),
        (source(type="file"), ".source.file_id"),
        (source(type="files", file_id="file_1"), ".source.type"),
        (source(type="base64"), ".source.data"),
        (source(type="base64", data=""), ".source.data"),
        (source(type="base64", data=SHAPES, url="https://example.org"), ".source.url"),
        (source(type="url", url=5), ".source.url"),
        (source(type="url", url="https://example.org/a.jpg", media_type=5), ".source.media_type"),
        (source(type="base64", data=SHAPES, media_type=["a"]), ".source.media_type"),
        (source(type="url", url="shapes.jpg"), ""),
        ({**SHOWN, "fps": 2}, ".fps"),
        ({**SHOWN, "max_pixels": 1}, ".max_pixels"),
        ({**SHOWN, "colour": "red"}, ".colour"),
        (source(type="base64", data="bm8gaW1hZ2U="), ""),
        ({"type": "tool_result", "content": "a"}, ".tool_use_id"),
        ({"type": "tool_result", "tool_use_id": "a", "content": 5}, ".content"),
        ({"type": "tool_result", "tool_use_id": "a", "content": [{}]}, ".content[0].type"),
        (
            {"type": "tool_result", "tool_use_id": "a", "content": [{**SHOWN, "fps": 2}]},
            ".content[0].fps",
        ),
        (CALL, ".type"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_a_block_that_is_wrong(refused, block, place, path):
    assert refused(body(block), path) == PART + place
    # The same behind another message and a result of a tool.
    before = {"type": "tool_result", "tool_use_id": "a", "content": [SHOWN]}
    sent = body(before, block)
    sent["messages"].insert(0, {"role": "assistant", "content": [CALL]})
    sent["messages"].insert(0, {"role": "user", "content": "Look."})
    assert refused(sent, path) == "messages[2].content[1]" + place


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"model": None}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": []}, {"role": "assistant", "content": "a"}]},
            "messages[0].content",
        ),
        ({"messages": [{"role": "user", "content": "a", "name": "b"}]}, "messages[0].name"),
        ({"messages": ["a"]}, "messages[0]"),
        ({"system": 5}, "system"),
        ({"system": [SHOWN]}, "system[0].type"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 5}, "top_p"),
        ({"stop_sequences": "a" * 2000}, "stop_sequences"),
        ({"stop_sequences": ["a"] * 50}, "stop_sequences"),
        ({"tools": "look"}, "tools"),
        ({"tools": [{"type": "web_search_20250305", "name": "a"}]}, "tools[0].type"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tools": [{**TOOL, "name": ""}]}, "tools[0].name"),
        ({"tools": [{"name": "a"}]}, "tools[0].input_schema"),
        ({"tools": [{**TOOL, "parameters": {}}]}, "tools[0].parameters"),
        ({"tool_choice": "auto"}, "tool_choice.type"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"output_config": {"format": {"type": "text"}}}, "output_config.format.type"),
        ({"output_format": {"type": "json_schema"}}, "output_format.schema"),
        ({"mcp_servers": [{"url": "https://example.org"}]}, "mcp_servers"),
        ({"max_completion_tokens": 5}, "max_completion_tokens"),
        ({"temprature": 0}, "temprature"),
        ({"vision": {"coordinates": "pixels"}}, "vision.coordinates"),
    ],
)
def test_a_field_that_is_wrong(refused, fields, param):
    assert refused({**body(SHOWN), **fields}) == param


@pytest.mark.parametrize(
    ("block", "place"),
    [
        (SHOWN, ".type"),
        ({**CALL, "input": "{}"}, ".input"),
        ({**CALL, "id": None}, ".id"),
        ({**CALL, "name": 5}, ".name"),
    ],
)
def test_what_the_assistant_did_not_say(refused, block, place):
    sent = body()
    sent["messages"].insert(0, {"role": "assistant", "content": [block]})
    assert refused(sent) == PART + place


@pytest.mark.parametrize("nothing", ["", []])
def test_an_assistant_that_said_nothing(server, nothing):
    """As answers without content come back in the next turn."""
    sent = body(SHOWN)
    sent["messages"] += [{"role": "assistant", "content": nothing}, *body()["messages"]]
    answer = server.post(sent, "/v1/messages")
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["image_tokens"] == 48


def test_hints_are_taken(server):
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "a"}
    sent = body(SHOWN, thinking={"type": "enabled", "budget_tokens": 1024}, service_tier="auto")
    sent["messages"][0]["content"][0]["cache_control"] = {"type": "ephemeral"}
    said = [thought, {"type": "text", "text": "green"}]
    sent["messages"] += [{"role": "assistant", "content": said}, {"role": "user", "content": "So?"}]
    answer = server.post(sent, "/v1/messages")
    assert answer.status_code == 200, answer.text
    assert "vision" not in answer.json()


def test_an_unknown_field_is_told(server):
    answer = server.post(body(SHOWN, colourfulness=5), "/v1/messages").json()
    assert answer["vision"]["warnings"] == ["colourfulness is an unknown field, and was left out"]


def test_an_image_by_url(server, refused):
    """Nothing is fetched that chat would not fetch."""
    assert refused(body(source(type="url", url="http://127.0.0.1:9/a.jpg"))) == PART
