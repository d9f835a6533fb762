"""Anthropic's official client against the bundled model: what it shows is seen, what it says is
right."""

import asyncio
import json

import anthropic
import pytest
from people_send import AT, COLOUR, EVENTS, GREEN, LEAVES, OWN_SIZE, SCHEMA, SHAPES, image
from pydantic import BaseModel

from saccade.demo.questions import CALL

COMPUTER = CALL.fields["tools"][0]["function"]
CLICK = "Click the yellow triangle."
ASKED = {"model": "demo", "max_tokens": 64, "extra_body": {"temperature": 0}}
SHOWN = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/jpeg", "data": SHAPES},
}
CLIP = {
    "type": "video",
    "source": {"type": "base64", "media_type": "video/mp4", "data": EVENTS},
    **OWN_SIZE,
}
TOOL = {
    "name": COMPUTER["name"],
    "description": COMPUTER["description"],
    "input_schema": COMPUTER["parameters"],
}
CLICKED = {"action": "left_click", "coordinate": pytest.approx([42, 49], abs=2)}


def user(*blocks, question=COLOUR):
    return {"role": "user", "content": [*blocks, {"type": "text", "text": question}]}


@pytest.fixture(scope="module")
def client(server):
    key = server.headers["Authorization"].removeprefix("Bearer ")
    return anthropic.Anthropic(base_url=server.url, api_key=key, max_retries=0, timeout=120)


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


@pytest.mark.parametrize("last", [False, True])
def test_an_image(client, server, last):
    blocks = user(SHOWN)["content"]
    message = client.messages.create(
        **ASKED,
        messages=[{"role": "user", "content": blocks[::-1] if last else blocks}],
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        metadata={"user_id": "someone"},
    )
    assert text_of(message) == GREEN
    assert (message.role, message.type, message.model) == ("assistant", "message", "demo")
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert message.id.startswith("msg_")
    assert message._request_id
    assert message.usage.image_tokens == 48


def test_a_video_and_what_the_model_saw(client):
    message = client.messages.create(
        **{**ASKED, "extra_body": {"temperature": 0, "vision": {"report": True}}},
        messages=[user(CLIP, question=LEAVES)],
    )
    assert text_of(message) == AT
    (medium,) = message.vision["media"]
    assert medium["path"] == "messages[0].content[0]"
    assert message.usage.video_tokens == medium["tokens"] > 0


def test_boxes_in_the_callers_pixels(client):
    """An image that is made twice as large, and its box, whole and streamed."""
    large = {**SHOWN, "resized_width": 448, "resized_height": 336}
    question = "Locate the yellow triangle."
    found = {}
    for coordinates in ("model", "source"):
        fields = {"temperature": 0, "vision": {"coordinates": coordinates}}
        given = {**ASKED, "extra_body": fields, "messages": [user(large, question=question)]}
        whole = client.messages.create(**given)
        with client.messages.stream(**given) as stream:
            assert stream.get_final_text() == text_of(whole)
        (box,) = json.loads(text_of(whole))
        found[coordinates] = box["bbox_2d"]
    assert found["model"] == pytest.approx([2 * number for number in found["source"]], abs=1)


def test_the_count_is_what_usage_tells_and_the_second_time_is_cached(client):
    shown = {**SHOWN, "resized_width": 448, "resized_height": 336}
    given = {"model": "demo", "messages": [user(shown)], "system": "Be brief.", "tools": [TOOL]}
    counted = client.messages.count_tokens(**given).input_tokens
    told = [client.messages.create(**ASKED | given).usage for _ in range(2)]
    for usage in told:
        assert usage.input_tokens + usage.cache_read_input_tokens == counted
    assert told[1].cache_read_input_tokens > usage.image_tokens / 2


def test_a_stream(client):
    with client.messages.stream(**ASKED, messages=[user(SHOWN)]) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert kinds[0] == "message_start"
    assert kinds[1] == "content_block_start"
    assert set(kinds[2:-3]) == {"content_block_delta", "text"}  # the helper's own, too
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert text_of(final) == GREEN
    assert final.stop_reason == "end_turn"
    whole = client.messages.create(**ASKED, messages=[user(SHOWN)])
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert final.usage.input_tokens + final.usage.cache_read_input_tokens == (
        whole.usage.input_tokens + whole.usage.cache_read_input_tokens
    )


def test_the_asynchronous_client(server):
    key = server.headers["Authorization"].removeprefix("Bearer ")

    async def ask():
        async with anthropic.AsyncAnthropic(
            base_url=server.url, auth_token=key, api_key=None, max_retries=0
        ) as client:

            async def streamed():
                async with client.messages.stream(**ASKED, messages=[user(SHOWN)]) as stream:
                    return await stream.get_final_text()

            whole = client.messages.create(**ASKED, messages=[user(SHOWN)])
            text, message = await asyncio.gather(streamed(), whole)
            return text, text_of(message)

    assert asyncio.run(ask()) == (GREEN, GREEN)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("choice", [{"type": "auto"}, {"type": "tool", "name": COMPUTER["name"]}])
def test_a_call_and_its_result(client, choice, streamed):
    messages = [user(SHOWN, question=CLICK)]
    given = {**ASKED, "tools": [TOOL], "tool_choice": choice}
    if streamed:
        with client.messages.stream(**given, messages=messages) as stream:
            called = stream.get_final_message()
    else:
        called = client.messages.create(**given, messages=messages)
    (use,) = [block for block in called.content if block.type == "tool_use"]
    assert (use.name, called.stop_reason) == (COMPUTER["name"], "tool_use")
    assert use.input == CLICKED
    result = {"type": "tool_result", "tool_use_id": use.id, "content": [SHOWN]}
    messages += [{"role": "assistant", "content": called.content}, user(result)]
    answered = client.messages.create(**ASKED, tools=[TOOL], messages=messages)
    assert answered.usage.image_tokens == 2 * called.usage.image_tokens
    assert answered.content


def test_an_agent_of_the_clients_own(server, client):
    """Its tool runner asks, calls the function with what the model said, and asks again."""
    clicks = []

    @anthropic.beta_tool(name=COMPUTER["name"], input_schema=COMPUTER["parameters"])
    def computer_use(action: str, coordinate: list[int]) -> str:
        """Use a mouse to interact with a computer. The screen is 224x168."""
        clicks.append({"action": action, "coordinate": coordinate})
        return "done"

    runner = client.beta.messages.tool_runner(
        **ASKED, tools=[computer_use], messages=[user(SHOWN, question=CLICK)], max_iterations=2
    )
    turns = list(runner)
    assert clicks[0] == CLICKED
    assert len(turns) == 2


def test_an_answer_by_a_schema(client):
    class Seen(BaseModel):
        colour: str

    schema = {"type": "json_schema", "schema": SCHEMA}
    message = client.messages.create(
        **ASKED, messages=[user(SHOWN)], output_config={"format": schema}
    )
    assert json.loads(text_of(message)) == {"colour": GREEN}
    assert Seen.model_validate_json(text_of(message)).colour == GREEN


def test_it_stops_where_it_is_told(client):
    given = {**ASKED, "messages": [user(CLIP, question=LEAVES)]}
    stopped = client.messages.create(**given, stop_sequences=["0:", "xyz"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "0:")
    assert AT.startswith(text_of(stopped))
    short = client.messages.create(**given | {"max_tokens": 1})
    assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 1)


def test_the_model_goes_on_with_what_it_is_made_to_say(client):
    begun = {"role": "assistant", "content": AT[:3]}
    message = client.messages.create(**ASKED, messages=[user(CLIP, question=LEAVES), begun])
    assert AT[:3] + text_of(message) == AT


def test_turns(client):
    messages = [user(SHOWN), {"role": "assistant", "content": GREEN}]
    messages.append({"role": "user", "content": "And the triangle?"})
    assert text_of(client.messages.create(**ASKED, messages=messages)) == "yellow"


def test_errors_are_those_of_the_client(server, client):
    with pytest.raises(anthropic.BadRequestError) as bad:
        client.messages.create(**ASKED, messages=[user({**SHOWN, "fps": 2})])
    assert bad.value.body["type"] == "error"
    assert bad.value.body["error"]["type"] == "invalid_request_error"
    assert bad.value.body["error"]["param"] == "messages[0].content[0].fps"
    assert bad.value.body["request_id"] == bad.value.request_id
    with pytest.raises(anthropic.NotFoundError) as unknown:
        client.messages.create(**ASKED | {"model": "other"}, messages=[user()])
    assert unknown.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.AuthenticationError) as wrong:
        client.with_options(api_key="wrong").messages.create(**ASKED, messages=[user()])
    assert wrong.value.body["error"]["type"] == "authentication_error"


def test_a_stream_that_fails(client):
    """A grammar that no text obeys ends an answer that has begun."""
    schema = {"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}, "required": ["a"]}
    given = {**ASKED, "messages": [user(SHOWN)], "stream": True}
    with pytest.raises(anthropic.APIStatusError) as failed:
        for _ in client.messages.create(
            **given, output_config={"format": {"type": "json_schema", "schema": schema}}
        ):
            pass
    assert failed.value.body["error"]["param"] == "output_config.format"


def test_models(client):
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").id == "demo"


def test_chat_says_the_same(server, client):
    chat = {"model": "demo", "max_tokens": 64, "temperature": 0}
    chat["messages"] = [{"role": "user", "content": [image(), {"type": "text", "text": COLOUR}]}]
    usage = server.post(chat).json()["usage"]
    told = client.messages.create(**ASKED, messages=[user(SHOWN)]).usage
    assert told.input_tokens + told.cache_read_input_tokens == usage["prompt_tokens"]
