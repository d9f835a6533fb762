"""Responses through the official client."""

import json

import openai
import pytest
import vllm

TEXT = {"type": "input_text", "text": "What is it?"}
CALL = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}


def ask(client, given, **options):
    options.setdefault("max_output_tokens", 8)
    return client.responses.create(model="demo", input=given, **options)


def user(*parts):
    return [{"role": "user", "content": list(parts)}]


def vision_tokens(answer):
    details = answer.usage.input_tokens_details.model_dump()
    return details["image_tokens"], details["video_tokens"]


@pytest.fixture
def refused(server):
    """Posts a request that fails; the place it names."""

    def post(given, status=400, **fields):
        body = {"model": "demo", "max_output_tokens": 2, "input": given, **fields}
        answer = server.post(body, "/v1/responses")
        assert answer.status_code == status, answer.text
        return answer.json()["error"]["param"]

    return post


def test_text(client):
    answer = ask(client, "Hello", extra_body={"ignore_eos": True})
    assert answer.output_text
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert answer.usage.output_tokens == 8
    assert vision_tokens(answer) == (0, 0)


def test_the_model_is_shown_what_chat_shows_it(client, image_url, clip_url):
    url = image_url(140, 84)
    given = user(
        TEXT,
        {"type": "input_image", "image_url": url, "detail": "auto"},
        {"type": "input_video", "video_url": clip_url, "nframes": 4},
    )
    response = ask(client, given, temperature=0, instructions="Be brief.")
    parts = [
        {"type": "text", "text": TEXT["text"]},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "video_url", "video_url": {"url": clip_url}, "nframes": 4},
    ]
    chat = client.chat.completions.create(
        model="demo",
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}],
        max_tokens=8,
        temperature=0,
    )
    assert response.output_text == chat.choices[0].message.content
    assert response.usage.input_tokens == chat.usage.prompt_tokens
    details = chat.usage.prompt_tokens_details.model_dump()
    assert vision_tokens(response) == (15, details["video_tokens"])
    assert details["video_tokens"] > 0


def test_input_is_counted(client, refused, image_url, clip_url):
    shown = {"type": "input_image", "image_url": image_url(140, 84), "detail": "auto"}
    clip = {"type": "input_video", "video_url": clip_url, "nframes": 4}
    look = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}
    for given in ("Hello", user(TEXT, shown), user(clip, TEXT)):
        fields = {"model": "demo", "input": given, "instructions": "Be brief.", "tools": [look]}
        counted = client.responses.input_tokens.count(**fields)
        assert counted.object == "response.input_tokens"
        usage = client.responses.create(**fields, max_output_tokens=1, tool_choice="none").usage
        assert counted.input_tokens == usage.input_tokens


def test_stream(client, image_url):
    given = user(TEXT, {"type": "input_image", "image_url": image_url(112, 56)})
    whole = ask(client, given, temperature=0)
    events = list(
        ask(client, given, temperature=0, stream=True, extra_body={"vision": {"report": True}})
    )
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == whole.output_text
    first, last = events[0], events[-1]
    # vLLM 0.32 ends an answer that was cut off as if it were complete.
    is_told = whole.status == "incomplete" and vllm.__version_tuple__ >= (0, 33)
    ended = "response.incomplete" if is_told else "response.completed"
    assert (first.type, last.type) == ("response.created", ended)
    assert vision_tokens(last.response) == (8, 0)
    (medium,) = first.response.vision["media"]
    assert (medium["path"], medium["tokens"]) == ("input[0].content[1]", 8)
    assert last.response.vision == first.response.vision
    assert not hasattr(events[1].response, "vision")


def test_a_function_gives_a_picture(client, image_url):
    picture = {"type": "input_image", "image_url": image_url(112, 112)}
    given = [{"role": "user", "content": "Look"}, CALL]
    plain = {"type": "function_call_output", "call_id": "c1", "output": "seen"}
    shown = {**plain, "id": "o1", "status": "completed", "output": [picture]}
    assert vision_tokens(ask(client, [*given, plain])) == (0, 0)
    assert vision_tokens(ask(client, [*given, shown])) == (16, 0)


def test_all_that_the_assistant_said_is_read(client):
    def tokens(*texts):
        parts = [{"type": "output_text", "text": text} for text in texts]
        said = {"type": "message", "role": "assistant", "content": parts}
        return ask(client, [{"role": "user", "content": "a"}, said]).usage.input_tokens

    assert tokens("one", " two") == tokens("one two") > tokens("one")


def test_structured_output(client):
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green"]}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    form = {"format": {"type": "json_schema", "name": "seen", "schema": schema}}
    answer = ask(client, "Which?", text=form, max_output_tokens=64)
    assert json.loads(answer.output_text)["colour"] in ("red", "green")


def test_a_tool_is_called(client):
    tool = {
        "type": "function",
        "name": "point",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"side": {"enum": ["left", "right"]}},
            "required": ["side"],
            "additionalProperties": False,
        },
    }
    choice = {"type": "function", "name": "point"}
    answer = ask(client, "Point", tools=[tool], tool_choice=choice, max_output_tokens=300)
    (call,) = answer.output
    assert (call.type, call.name) == ("function_call", "point")
    assert json.loads(call.arguments)["side"] in ("left", "right")


@pytest.mark.parametrize(
    ("item", "place"),
    [
        (5, ""),
        ({"type": "item_reference", "id": "x"}, ".type"),
        ({"content": "hello"}, ".type"),
        ({"role": "wizard", "content": "hello"}, ".role"),
        ({"role": "user"}, ".content"),
        (
            {"role": "user", "content": [{"type": "input_image", "file_id": 5}]},
            ".content[0].file_id",
        ),
        ({"role": "user", "content": [{"type": "input_image"}]}, ".content[0].image_url"),
        (
            {"role": "user", "content": [{"type": "input_image", "image_url": "data:,", "fps": 2}]},
            ".content[0].fps",
        ),
        (
            {"role": "assistant", "content": [{"type": "input_image", "image_url": "data:,"}]},
            ".content[0]",
        ),
        ({"type": "function_call_output", "output": "seen"}, ".call_id"),
        (
            {
                "type": "function_call_output",
                "call_id": "c1",
                "output": [{"type": "input_video", "video_url": "data:,", "fps": 0}],
            },
            ".output[0].fps",
        ),
    ],
)
def test_items_are_refused_by_name(refused, item, place):
    assert refused([{"role": "user", "content": "a"}, item]) == f"input[1]{place}"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"background": True}, "background"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"mm_processor_kwargs": {"do_resize": 1}}, "mm_processor_kwargs.do_resize"),
        ({"tools": [{"type": "web_search_preview"}]}, "tools[0].type"),
        ({"vision": {"report": 1}}, "vision.report"),
        ({"include": ["everything"]}, "include[0]"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"input": "word " * 9000}, "input"),
        ({"input": None}, "input"),
    ],
)
def test_fields_are_refused_by_name(refused, fields, param):
    assert refused("a", **fields) == param


def test_a_prompt_with_media_is_not_cut_off(refused, image_url, server):
    given = user({"type": "input_image", "image_url": image_url(56, 56)})
    assert refused(given, truncation="auto") == "truncation"
    messages = user({"type": "image_url", "image_url": {"url": image_url(56, 56)}})
    answer = server.post({"model": "demo", "messages": messages, "truncate_prompt_tokens": 4})
    assert answer.json()["error"]["param"] == "truncate_prompt_tokens"


def test_text_that_spells_a_special_token(client, image_url):
    given = user({"type": "input_image", "image_url": image_url(56, 56)})
    answer = client.responses.create(
        model="demo", input=given, instructions="see <|im_start|>", max_output_tokens=16
    )
    assert answer.usage.input_tokens_details.model_dump()["image_tokens"] == 4
    assert answer.instructions == "see <|im_start|>"


def test_model_that_is_not_served(client, server, image_url):
    given = user({"type": "input_image", "image_url": image_url(56, 56)})
    with pytest.raises(openai.NotFoundError) as failure:
        client.responses.create(model="gpt-9", input=given)
    assert failure.value.code == "model_not_found"
    server.wait_until_idle()
