"""Chat completions through the official client."""

import base64
import json

import pytest

TEXT = {"type": "text", "text": "What is it?"}


def ask(client, content, **options):
    options.setdefault("max_tokens", 8)
    messages = [{"role": "user", "content": content}]
    return client.chat.completions.create(model="demo", messages=messages, **options)


def vision_tokens(usage):
    details = usage.prompt_tokens_details.model_dump()
    return details["image_tokens"], details["video_tokens"]


def test_text(client):
    answer = ask(client, "Hello", max_tokens=5, extra_body={"ignore_eos": True})
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 5
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 5
    assert vision_tokens(answer.usage) == (0, 0)


def test_stream_equals_the_whole_answer_and_ends_with_usage(client, image_url):
    content = [TEXT, {"type": "image_url", "image_url": {"url": image_url(140, 84)}}]
    whole = ask(client, content, temperature=0, max_tokens=12)
    chunks = list(
        ask(
            client,
            content,
            temperature=0,
            max_tokens=12,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert vision_tokens(chunks[-1].usage) == vision_tokens(whole.usage) == (15, 0)
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_several_images_count_their_tokens(client, image_url):
    # 28 x 28 pixels are one token.
    parts = [
        {"type": "image_url", "image_url": {"url": image_url(56, 56)}},
        {"type": "image_url", "image_url": {"url": image_url(112, 56, "blue", "JPEG")}},
        {"type": "image_url", "image_url": {"url": image_url(84, 140, "green", "WEBP")}},
    ]
    with_images = ask(client, [TEXT, *parts])
    text_only = ask(client, [TEXT])
    tokens = 4 + 8 + 15
    assert vision_tokens(with_images.usage) == (tokens, 0)
    # Each image adds its tokens and the two that enclose them.
    assert with_images.usage.prompt_tokens - text_only.usage.prompt_tokens == tokens + 2 * 3


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "URL"}, "max_pixels": 56 * 56},
        {"type": "image_url", "image_url": {"url": "URL", "max_pixels": 56 * 56}},
        {"type": "image_url", "image_url": "URL", "resized_width": 56, "resized_height": 56},
        {"type": "image", "image": "URL", "max_pixels": 56 * 56},
    ],
    ids=["beside", "inside", "plain-url", "qwen"],
)
def test_every_spelling_of_an_image_obeys_its_controls(client, image_url, part):
    part = json.loads(json.dumps(part).replace("URL", image_url(112, 112)))
    assert vision_tokens(ask(client, [TEXT, part]).usage) == (4, 0)


def test_detail_low_costs_fewer_tokens_than_high(client, image_url):
    url = image_url(1120, 1120)
    low, high = (
        ask(client, [{"type": "image_url", "image_url": {"url": url, "detail": detail}}])
        for detail in ("low", "high")
    )
    assert vision_tokens(high.usage) == (1600, 0)
    assert 0 < vision_tokens(low.usage)[0] <= 334


def test_one_pixel_is_scaled_up_and_served(client, image_url):
    answer = ask(client, [TEXT, {"type": "image_url", "image_url": {"url": image_url(1, 1)}}])
    assert vision_tokens(answer.usage) == (4, 0)


def test_file_below_the_media_root(client, media_root, image_url):
    encoded = image_url(56, 56).partition(",")[2]
    (media_root / "red.png").write_bytes(base64.b64decode(encoded))
    url = f"file://{media_root}/red.png"
    answer = ask(client, [TEXT, {"type": "image_url", "image_url": {"url": url}}])
    assert vision_tokens(answer.usage) == (4, 0)


@pytest.mark.parametrize("kind", ["video_url", "video"])
def test_clip(client, clip, kind):
    url = "data:video/mp4;base64," + base64.b64encode(clip).decode()
    part = {"type": kind, kind: {"url": url} if kind == "video_url" else url}
    size = {"resized_width": 112, "resized_height": 56}
    answer = ask(client, [TEXT, {**part, **size, "nframes": 4}])
    # Two frames make one step of the grid: 2 steps of 4 x 2 tokens.
    assert vision_tokens(answer.usage) == (0, 16)


def test_list_of_frames(client, image_url):
    frames = [image_url(112, 56, colour) for colour in ("red", "green", "blue", "white")]
    size = {"resized_width": 112, "resized_height": 56}
    part = {"type": "video", "video": frames, "sample_fps": 1.0, **size}
    chunks = list(ask(client, [TEXT, part], stream=True, stream_options={"include_usage": True}))
    assert vision_tokens(chunks[-1].usage) == (0, 16)


def test_second_turn_keeps_the_first_turns_image(client, image_url):
    first = [{"type": "image_url", "image_url": {"url": image_url(56, 56)}}, TEXT]
    messages = [{"role": "user", "content": first}]
    answer = client.chat.completions.create(model="demo", messages=messages, max_tokens=6)
    messages += [
        {"role": "assistant", "content": answer.choices[0].message.content},
        {"role": "user", "content": "And the colour?"},
    ]
    second = client.chat.completions.create(model="demo", messages=messages, max_tokens=6)
    assert vision_tokens(second.usage) == (4, 0)
    assert second.usage.prompt_tokens > answer.usage.prompt_tokens


def test_n_seed_and_stop(client):
    options = {"n": 2, "seed": 7, "temperature": 2.0, "max_tokens": 12}
    one = ask(client, "Say something", **options)
    two = ask(client, "Say something", **options)
    texts = [choice.message.content for choice in one.choices]
    assert len(texts) == 2
    assert texts[0] != texts[1]
    assert texts == [choice.message.content for choice in two.choices]

    whole = ask(client, "Say something", temperature=0, max_tokens=12)
    text = whole.choices[0].message.content
    stop = text[len(text) // 2 :][:3]
    stopped = ask(client, "Say something", temperature=0, max_tokens=12, stop=[stop])
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.choices[0].message.content == text[: text.index(stop)]


def test_logprobs(client):
    answer = ask(client, "Hello", logprobs=True, top_logprobs=3, max_tokens=4, temperature=0)
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens
    for token in tokens:
        assert len(token.top_logprobs) == 3
        assert token.logprob == max(top.logprob for top in token.top_logprobs) <= 0


def test_json_schema(client):
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}, "count": {"enum": [1, 2, 3]}},
        "required": ["colour", "count"],
        "additionalProperties": False,
    }
    answer = ask(
        client,
        "Describe it",
        max_tokens=300,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "thing", "schema": schema, "strict": True},
        },
    )
    thing = json.loads(answer.choices[0].message.content)
    assert thing["colour"] in ("red", "blue")
    assert thing["count"] in (1, 2, 3)


def test_tool_call_and_its_result(client):
    tool = {
        "type": "function",
        "function": {
            "name": "look",
            "description": "Looks closer",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"where": {"enum": ["left", "right"]}},
                "required": ["where"],
                "additionalProperties": False,
            },
        },
    }
    choice = {"type": "function", "function": {"name": "look"}}
    messages = [{"role": "user", "content": "Look"}]
    answer = client.chat.completions.create(
        model="demo", messages=messages, tools=[tool], tool_choice=choice, max_tokens=300
    )
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "look"
    assert json.loads(call.function.arguments)["where"] in ("left", "right")

    messages += [
        answer.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": "nothing there"},
    ]
    after = client.chat.completions.create(
        model="demo", messages=messages, tools=[tool], tool_choice="auto", max_tokens=6
    )
    assert after.usage.prompt_tokens > answer.usage.prompt_tokens


def test_completions(client):
    whole = client.completions.create(model="demo", prompt="Once upon", max_tokens=6, temperature=0)
    stream = client.completions.create(
        model="demo", prompt="Once upon", max_tokens=6, temperature=0, stream=True
    )
    assert whole.usage.completion_tokens <= 6
    assert "".join(chunk.choices[0].text for chunk in stream) == whole.choices[0].text
