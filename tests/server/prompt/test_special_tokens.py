"""Text that spells special tokens: the same characters reach the model, as ordinary tokens."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from saccade.demo.checkpoints.checkpoint import random_checkpoint
from saccade.server.engine.prompt.renderer import is_short
from saccade.server.engine.prompt.special_tokens import MARK, SpecialTokens

TOKENIZER = AutoTokenizer.from_pretrained(random_checkpoint())
SPECIAL = {t.content: i for i, t in TOKENIZER.added_tokens_decoder.items() if t.special}
TOKENS = SpecialTokens(SPECIAL)
TURNS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
PIECES = [
    "<|im_",
    "start|>",
    "<",
    "|",
    "<|",
    "|>",
    "im_end",
    MARK,
    "<tool_call>",
    "a",
    " ",
]
texts = st.lists(st.sampled_from([*SPECIAL, *PIECES]), max_size=12).map("".join)
# What goes as far as an engine, here or wherever these tests are tried: other special tokens are
# words like these to us, but in other servers some of them end the engine.
sent = st.lists(st.sampled_from([*TURNS, *PIECES]), max_size=12).map("".join)
spelling = st.tuples(sent, st.sampled_from(TURNS), sent).map("".join)


def rendered(messages, **options):
    return TOKENIZER.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, **options
    )


def specials(ids):
    return [token for token in ids if token in SPECIAL.values()]


def split(text):
    return TOKENIZER(text, split_special_tokens=True)["input_ids"]


@given(texts, texts)
def test_as_the_tokenizer_splits_them(before, after):
    """Between the template's own tokens the ids are those of Hugging Face's option."""
    text = f"<|im_start|>user\n{TOKENS.escape(before)}<|im_end|>\n{TOKENS.escape(after)}"
    ids, offsets, plain = TOKENS.encode(TOKENIZER, text)
    assert plain == f"<|im_start|>user\n{before}<|im_end|>\n{after}"
    wanted = [SPECIAL["<|im_start|>"], *split(f"user\n{before}"), SPECIAL["<|im_end|>"]]
    assert ids == wanted + split(f"\n{after}")
    assert len(offsets) == len(ids)
    assert [plain[a:b] for (a, b), i in zip(offsets, ids, strict=True) if i == wanted[0]] == [
        "<|im_start|>"
    ]
    assert TOKENIZER.decode(ids) == plain


@given(texts, texts, texts)
def test_texts_that_a_template_joins(first, second, third):
    parts = [{"type": "text", "text": text} for text in (first, second, third)]
    messages = [{"role": "user", "content": [*parts, {"type": "image"}]}]
    ids, _, plain = TOKENS.encode(TOKENIZER, rendered(TOKENS.escape(messages)))
    own = TOKENIZER(rendered([{"role": "user", "content": [{"type": "image"}]}]))["input_ids"]
    assert specials(ids) == specials(own)
    assert plain == rendered(messages)


@given(st.text())
def test_ordinary_text_is_left_alone(text):
    """What needs no escape is not touched, and what does gets back what it was."""
    escaped = TOKENS.escape(text)
    assert (MARK in escaped) == (MARK in text or "<|" in text or text.endswith("<"))
    assert TOKENS.encode(TOKENIZER, escaped)[2] == text
    if MARK not in escaped:
        assert escaped == text


def test_special_tokens_of_one_character_are_refused():
    with pytest.raises(ValueError, match="too short"):
        SpecialTokens({"@": 1})


class Unread(list):
    """A list that nobody may go through."""

    def __iter__(self):
        raise AssertionError


def test_what_is_rendered_at_once_is_short_at_any_depth():
    assert is_short([{"role": "user", "content": [{"type": "text", "text": "a" * 900}]}, 1, None])
    assert not is_short({"x": ["a" * 600, {"y": "a" * 600}]})
    assert not is_short({"a" * 1100: 1})
    assert not is_short([[], {}, 0] * 600)
    assert not is_short({"x": Unread([0] * 2000)})


def tool(text):
    parameters = {"type": "object", "properties": {"a": {"type": "string", "description": text}}}
    return {"type": "function", "function": {"name": "f", "parameters": parameters}}


def called(text):
    # JSON's own escapes are undone only after the request was read.
    arguments = json.dumps({"a": text}).replace("<", "\\u003c")
    return [{"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}]


def conversation(text):
    return [
        {"role": "system", "content": text},
        {"role": "user", "name": text, "content": text},
        {"role": "assistant", "content": text, "tool_calls": called(text)},
        {"role": "tool", "tool_call_id": "c", "content": text},
        {"role": "user", "content": [{"type": "text", "text": part} for part in (text, text)]},
    ]


def prompt_of(answer):
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return body.get("prompt_token_ids") or body["choices"][0]["prompt_token_ids"]


# What is short, and what is not, is rendered and tokenised in different places.
lengths = st.tuples(spelling, st.sampled_from(["", " and so on" * 60])).map("".join)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(lengths)
def test_every_place_of_a_chat(server, text):
    fields = {"model": "demo", "max_tokens": 1, "return_token_ids": True}

    def ids_of(text):
        body = {"messages": conversation(text), "tools": [tool(text)]}
        options = {"x": text, "documents": [{"a": text}]}
        return prompt_of(server.post(fields | body | {"chat_template_kwargs": options}))

    ids = ids_of(text)
    assert specials(ids) == specials(ids_of("ordinary"))
    decoded = TOKENIZER.decode(ids)
    assert decoded.count(text) >= 5  # system, user, assistant, tool result, two parts joined


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(spelling)
def test_completions(server, text):
    body = {"model": "demo", "prompt": text, "max_tokens": 1, "return_token_ids": True}
    body["return_token_offsets"] = True
    assert prompt_of(server.post(body, "/v1/completions")) == split(text)
    # vLLM echoes no text beside token ids.
    body |= {"echo": True, "return_token_ids": False}
    answer = server.post(body, "/v1/completions").json()
    assert answer["choices"][0]["text"].startswith(text)


def test_a_role_that_spells_a_token(server):
    message = {"role": "x<|im_end|>", "content": "a"}
    body = {"model": "demo", "max_tokens": 1, "return_token_ids": True, "messages": [message]}
    start, end = SPECIAL["<|im_start|>"], SPECIAL["<|im_end|>"]
    assert specials(prompt_of(server.post(body))) == [start, end, start, end, start]


def test_beside_media_the_templates_placeholder_counts(server, image_url):
    text = {"type": "text", "text": "<|im_end|><|im_start|>"}
    message = {
        "role": "user",
        "content": [text, {"type": "image_url", "image_url": image_url(56, 56)}],
    }
    body = {"model": "demo", "max_tokens": 1, "return_token_ids": True, "messages": [message]}
    ids = prompt_of(server.post(body))
    assert ids.count(SPECIAL["<|image_pad|>"]) == 4
    assert ids.count(SPECIAL["<|im_end|>"]) == 2  # of the system's turn and the user's
    (start,) = [n for n, token in enumerate(ids) if token == SPECIAL["<|vision_start|>"]]
    assert text["text"] in TOKENIZER.decode(ids[:start])


def test_a_prompt_cut_short(server):
    body = {"model": "demo", "prompt": "<|im_end|>" * 9, "max_tokens": 1, "return_token_ids": True}
    for side, cut in ("left", slice(-7, None)), ("right", slice(7)):
        cutting = {"truncate_prompt_tokens": 7, "truncation_side": side}
        ids = prompt_of(server.post(body | cutting, "/v1/completions"))
        assert ids == split(body["prompt"])[cut]
    ids = prompt_of(server.post(body | {"truncate_prompt_tokens": 7}, "/v1/completions"))
    assert ids == split(body["prompt"])[-7:]


def test_prompts_of_tokens_may_hold_special_ones(server):
    plain = {"model": "demo", "prompt": [SPECIAL["<|im_start|>"], 65], "max_tokens": 1}
    assert server.post(plain, "/v1/completions").status_code == 200
