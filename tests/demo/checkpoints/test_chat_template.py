"""The demo's chat template renders the prompts that Qwen2.5-VL was trained on."""

import pytest
import transformers

from saccade.demo.checkpoints.checkpoint import random_checkpoint

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
VIDEO = "<|vision_start|><|video_pad|><|vision_end|>"
DEFAULT = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
TOOL_LINE = (
    '{"type": "function", "function": {"name": "get_weather", '
    '"description": "Weather of a city", '
    '"parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}'
)
TOOLS_SECTION = (
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
    + TOOL_LINE
    + "\n</tools>\n\nFor each function call, return a json object with function name and "
    "arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n'
)


@pytest.fixture(scope="module")
def tokenizer():
    return transformers.AutoTokenizer.from_pretrained(random_checkpoint())


def render(tokenizer, messages, **options) -> str:
    return tokenizer.apply_chat_template(messages, tokenize=False, **options)


def test_default_system_prompt_and_generation_prompt(tokenizer):
    chat = [{"role": "user", "content": "Hi"}]
    user = "<|im_start|>user\nHi<|im_end|>\n"
    assert render(tokenizer, chat) == DEFAULT + user
    assert (
        render(tokenizer, chat, add_generation_prompt=True)
        == DEFAULT + user + "<|im_start|>assistant\n"
    )


def test_own_system_prompt_as_text_and_as_parts(tokenizer):
    expected = (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello<|im_end|>\n"
    )
    rest = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert render(tokenizer, [{"role": "system", "content": "Be brief."}, *rest]) == expected
    parts = [{"type": "text", "text": "Be brief."}]
    assert render(tokenizer, [{"role": "system", "content": parts}, *rest]) == expected


def test_pictures_and_clips_stand_where_they_were_given(tokenizer):
    chat = [
        {
            "role": "user",
            "content": [
                {"type": "image"},
                {"type": "text", "text": "and "},
                {"type": "image_url", "image_url": {"url": "x"}},
                {"type": "video"},
                {"type": "text", "text": "\nCompare.\n"},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "Same."}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "video_url", "video_url": {}}]},
    ]
    assert render(tokenizer, chat) == (
        f"{DEFAULT}<|im_start|>user\n{IMAGE}and {IMAGE}{VIDEO}\nCompare.\n<|im_end|>\n"
        f"<|im_start|>assistant\nSame.<|im_end|>\n<|im_start|>user\n{IMAGE}{VIDEO}<|im_end|>\n"
    )
    assert render(tokenizer, chat, add_vision_id=True) == (
        f"{DEFAULT}<|im_start|>user\nPicture 1: {IMAGE}and Picture 2: {IMAGE}"
        f"Video 1: {VIDEO}\nCompare.\n<|im_end|>\n<|im_start|>assistant\nSame.<|im_end|>\n"
        f"<|im_start|>user\nPicture 3: {IMAGE}Video 2: {VIDEO}<|im_end|>\n"
    )


@pytest.mark.parametrize(
    ("system", "prompt"),
    [
        ([], "You are a helpful assistant."),
        ([{"role": "system", "content": "Be brief."}], "Be brief."),
        ([{"role": "system", "content": [{"type": "text", "text": "Be brief."}]}], "Be brief."),
        ([{"role": "system", "content": [{"type": "image"}, {"text": "!"}]}], f"{IMAGE}!"),
    ],
)
def test_tools_section_follows_the_system_prompt(tokenizer, system, prompt):
    chat = [*system, {"role": "user", "content": [{"type": "image"}]}]
    assert render(tokenizer, chat, tools=[TOOL]) == (
        f"<|im_start|>system\n{prompt}{TOOLS_SECTION}<|im_start|>user\n{IMAGE}<|im_end|>\n"
    )


def test_pictures_are_counted_from_the_system_prompt_on(tokenizer):
    image = [{"type": "image"}]
    chat = [{"role": "system", "content": image}, {"role": "user", "content": image}]
    assert render(tokenizer, chat, tools=[TOOL], add_vision_id=True) == (
        f"<|im_start|>system\nPicture 1: {IMAGE}{TOOLS_SECTION}"
        f"<|im_start|>user\nPicture 2: {IMAGE}<|im_end|>\n"
    )


@pytest.mark.parametrize("arguments", [None, "", {}])
def test_a_tool_call_without_arguments(tokenizer, arguments):
    call = {"type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    assert render(tokenizer, [{"role": "assistant", "content": "", "tool_calls": [call]}]) == (
        f"{DEFAULT}<|im_start|>assistant\n"
        '<tool_call>\n{"name": "get_weather", "arguments": {}}\n</tool_call><|im_end|>\n'
    )


@pytest.mark.parametrize("content", [None, "", "Let me look."])
@pytest.mark.parametrize("arguments", [{"city": "Köln"}, '{"city": "Köln"}'])
def test_tool_calls_and_their_results(tokenizer, content, arguments):
    call = {"type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    chat = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": content, "tool_calls": [call, call]},
        {"role": "tool", "content": "rain"},
        {"role": "tool", "content": [{"type": "text", "text": "sun"}, {"type": "image"}]},
        {"role": "assistant", "content": "Both."},
    ]
    called = '\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln"}}\n</tool_call>'
    said = f"\n{content}" if content else ""
    assert render(tokenizer, chat) == (
        f"{DEFAULT}<|im_start|>user\nWeather?<|im_end|>\n"
        f"<|im_start|>assistant{said}{called}{called}<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\nrain\n</tool_response>\n"
        f"<tool_response>\nsun{IMAGE}\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\nBoth.<|im_end|>\n"
    )


def test_the_engine_hands_the_template_parts_not_flattened_text(tokenizer):
    from vllm.renderers.hf import _detect_content_format

    assert _detect_content_format(tokenizer.chat_template, default="string") == "openai"
