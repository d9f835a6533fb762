"""A server with a chat template of its user's, which shows what users send and nothing else."""

import re

import pytest

FOR_USERS = """
{%- for turn in messages -%}
    {{- '<|im_start|>' + turn.role + '\n' -}}
    {%- if turn.content is string -%}
        {{- turn.content -}}
    {%- else -%}
        {%- for part in turn.content -%}
            {%- if part.type == 'text' -%}
                {{- part.text -}}
            {%- elif turn.role == 'user' -%}
                {{- '<|vision_start|><|' + part.type + '_pad|><|vision_end|>' -}}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{- '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\n' -}}
{%- endif -%}
"""


@pytest.fixture(scope="module")
def server(start_shared_server, tmp_path_factory):
    file = tmp_path_factory.mktemp("template") / "users.jinja"
    file.write_text(FOR_USERS)
    return start_shared_server(f"--chat-template={file}")


@pytest.fixture(scope="module")
def image(image_url):
    return {"type": "image_url", "image_url": {"url": image_url(56, 56)}}


def test_what_the_template_shows_is_answered(server, image):
    turns = [{"role": "user", "content": [image, "and", image]}]
    answer = server.post({"model": "demo", "messages": turns, "max_tokens": 1})
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["prompt_tokens_details"]["image_tokens"] == 8


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/vision/plan", "/tokenize"])
@pytest.mark.parametrize("tools", [None, [{"type": "function", "function": {"name": "look"}}]])
@pytest.mark.parametrize(
    ("turns", "place"),
    [
        ([("system", "IMAGE")], "messages[0].content[0]"),
        ([("user", "IMAGE", "IMAGE"), ("assistant", "one", "IMAGE")], "messages[1].content[1]"),
        (
            [("user", "IMAGE"), ("assistant", "IMAGE"), ("user", "IMAGE", "VIDEO")],
            "messages[1].content[0]",
        ),
        ([("user", "IMAGE", "VIDEO"), ("tool", "VIDEO", "one")], "messages[1].content[0]"),
    ],
)
def test_a_medium_that_the_prompt_does_not_hold(server, image, clip_url, path, tools, turns, place):
    video = {"type": "video_url", "video_url": {"url": clip_url}, "nframes": 2}
    media = {"IMAGE": image, "VIDEO": video}
    messages = [
        {
            "role": role,
            "content": [media.get(part, part) for part in parts],
            **({"tool_call_id": "c"} if role == "tool" else {}),
        }
        for role, *parts in turns
    ]
    body = {"model": "demo", "messages": messages, "tools": tools}
    answer = server.post({**body, "max_tokens": 1}, path)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("media_not_in_prompt", place)
    assert re.search("--chat-template", error["message"])


def test_a_medium_of_a_response_that_the_prompt_does_not_hold(server, image_url):
    image = {"type": "input_image", "image_url": image_url(56, 56)}
    given = [
        {"role": "user", "content": [image]},
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [image]},
    ]
    body = {"model": "demo", "input": given, "max_output_tokens": 2, "stream": True}
    answer = server.post(body, "/v1/responses")
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("media_not_in_prompt", "input[2].output[0]")


def test_the_log_says_what_it_lacks(server):
    (line,) = re.findall(r"chat template: (.*)", server.log.read_text())
    assert line == (
        "--chat-template: lacks numbered media (add_vision_id), media in system messages, media in "
        "assistant messages, tools, tool calls and their results, tools beside media, tools beside "
        "media in system messages, media in tool results"
    )
