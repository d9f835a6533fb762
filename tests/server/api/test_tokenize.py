"""Prompts are counted as the model would be given them."""

import httpx
import pytest

TOKENS_OF_IMAGE, IMAGE = 8, "<|image_pad|>"


def test_text_and_back(server):
    answer = server.post({"prompt": "Hello there", "return_token_strs": True}, "/tokenize").json()
    assert answer["count"] == len(answer["tokens"]) == len(answer["token_strs"])
    assert answer["max_model_len"] == 4096
    back = server.post({"tokens": answer["tokens"]}, "/detokenize")
    assert back.json() == {"prompt": "Hello there"}


def test_messages_with_media_take_what_the_model_is_given(server, image_url, clip_url):
    messages = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What?"},
                {"type": "image_url", "image_url": {"url": image_url(112, 56)}},
                {"type": "video", "video": clip_url, "nframes": 4},
            ],
        }
    ]
    body = {"messages": messages, "return_token_strs": True}
    counted = server.post(body, "/tokenize").json()
    chat = server.post({"model": "demo", "messages": messages, "max_tokens": 1}).json()
    assert counted["count"] == chat["usage"]["prompt_tokens"]
    assert counted["token_strs"].count(IMAGE) == TOKENS_OF_IMAGE
    server.wait_until_idle()


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": 7}, "prompt"),
        ("/tokenize", {"messages": [], "chat_template": "x"}, "chat_template"),
        ("/tokenize", {"messages": [{"role": "user", "content": [{"type": "x"}]}]}, None),
        ("/detokenize", {"tokens": "x"}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]"),
    ],
)
def test_mistakes_are_named(server, path, body, param):
    answer = server.post(body, path)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == (param or "messages[0].content[0].type")


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize"])
def test_they_need_a_key(server, path):
    assert httpx.post(server.url + path, json={"prompt": "a"}).status_code == 401
