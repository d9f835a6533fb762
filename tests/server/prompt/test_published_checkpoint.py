"""A checkpoint in the shape of the published ones: two chat templates, each of them partial.

What chat, responses and tokenising are tested for elsewhere holds on it too, and prompts are the
same with torchvision and without, where transformers has no processor and vLLM sees one template.
"""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from types import ModuleType

import openai
import pytest
import transformers
from published import published_checkpoint

from saccade.demo.questions import QUESTIONS
from saccade.server.checkpoint.bundled import bundled_checkpoint
from saccade.server.commands.child import saccade_command

ROOT = Path(__file__).parents[3]
TOKENIZER = transformers.AutoTokenizer.from_pretrained(bundled_checkpoint())


def module(name: str) -> ModuleType:
    """A module of tests beside this one."""
    spec = importlib.util.spec_from_file_location(f"published_{name}", ROOT / f"tests/{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


for part in (
    "api/test_chat",
    "api/test_responses",
    "api/test_tokenize",
    "prompt/test_special_tokens",
):
    kind = part.partition("test_")[2]
    for name, value in vars(module(f"server/{part}")).items():
        if name.startswith("test_") and {"server", "client"} & set(signature(value).parameters):
            globals()[f"test_{kind}_{name.removeprefix('test_')}"] = value
        elif name == "refused":  # a fixture
            globals()[name] = value

conftest = module("server/conftest")


@pytest.fixture(scope="module", params=["without torchvision", "with torchvision"])
def server(starts_engine, request, tmp_path_factory, media_root) -> Iterator:
    variables = {}
    if request.param == "with torchvision":
        folders = [ROOT / ".oracle", ROOT / "tests" / "oracle"]
        variables["PYTHONPATH"] = os.pathsep.join(map(str, folders))
    imported = subprocess.run(
        [sys.executable, "-c", "import torchvision"],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
    )
    if variables:
        assert imported.returncode == 0, imported.stderr
    else:
        assert "No module named 'torchvision'" in imported.stderr
    folder = tmp_path_factory.mktemp("published")
    running = conftest.start(
        folder / "log",
        f"--media-root={media_root}",
        "--dtype=float32",
        model=published_checkpoint(folder / "checkpoint"),
        variables=variables,
    )
    yield running
    running.kill()


@pytest.fixture(scope="module")
def client(server) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url + "/v1", api_key=conftest.KEY, max_retries=0)


IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
VIDEO = "<|vision_start|><|video_pad|><|vision_end|>"
DEFAULT = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
ANSWER = "<|im_start|>assistant\n"
TOOL = {
    "type": "function",
    "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object"}},
}
TOOLS_SECTION = (
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
    '{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": '
    '{"type": "object"}}}\n</tools>\n\nFor each function call, return a json object with function '
    "name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n'
)
CALL = '\n<tool_call>\n{"name": "look", "arguments": {"at": "ä"}}\n</tool_call>'
NO_ARGUMENTS = '\n<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'


def called(arguments, content=None):
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": arguments}}
    return {"role": "assistant", "content": content, "tool_calls": [call]}


def gave(*content):
    return {"role": "tool", "tool_call_id": "c", "content": list(content)}


def turn(role, text):
    return f"<|im_start|>{role}\n{text}<|im_end|>\n"


HI = {"role": "user", "content": "Hi"}
# Name -> the body of a request, with "IMAGE" and "VIDEO" for media, and its prompt.
PROMPTS = {
    "text": ({"messages": [HI]}, DEFAULT + turn("user", "Hi") + ANSWER),
    "parts of text": (
        {"messages": [{"role": "user", "content": ["one", {"type": "text", "text": " two"}]}]},
        DEFAULT + turn("user", "one two") + ANSWER,
    ),
    "media": (
        {"messages": [{"role": "user", "content": ["see ", "IMAGE", "IMAGE", "VIDEO", "?"]}]},
        DEFAULT + turn("user", f"see {IMAGE}{IMAGE}{VIDEO}?") + ANSWER,
    ),
    "numbered media": (
        {
            "messages": [{"role": "user", "content": ["IMAGE", "VIDEO", "IMAGE"]}],
            "chat_template_kwargs": {"add_vision_id": True},
        },
        DEFAULT + turn("user", f"Picture 1: {IMAGE}Video 1: {VIDEO}Picture 2: {IMAGE}") + ANSWER,
    ),
    "numbered media beside tools": (
        {
            "messages": [{"role": "user", "content": ["IMAGE", "VIDEO", "IMAGE"]}],
            "tools": [TOOL],
            "chat_template_kwargs": {"add_vision_id": True},
        },
        DEFAULT.replace("<|im_end|>\n", TOOLS_SECTION)
        + turn("user", f"Picture 1: {IMAGE}Video 1: {VIDEO}Picture 2: {IMAGE}")
        + ANSWER,
    ),
    "tools": (
        {"messages": [{"role": "system", "content": "Be brief."}, HI], "tools": [TOOL]},
        f"<|im_start|>system\nBe brief.{TOOLS_SECTION}{turn('user', 'Hi')}{ANSWER}",
    ),
    "an image in the system message beside tools": (
        {"messages": [{"role": "system", "content": ["Like ", "IMAGE"]}, HI], "tools": [TOOL]},
        f"<|im_start|>system\nLike {IMAGE}{TOOLS_SECTION}{turn('user', 'Hi')}{ANSWER}",
    ),
    "an image in the system message": (
        {"messages": [{"role": "system", "content": ["Like ", "IMAGE"]}, HI]},
        turn("system", f"Like {IMAGE}") + turn("user", "Hi") + ANSWER,
    ),
    "an image of a developer, later": (
        {"messages": [HI, {"role": "developer", "content": ["Like ", "IMAGE"]}, HI]},
        DEFAULT
        + turn("user", "Hi")
        + turn("system", f"Like {IMAGE}")
        + turn("user", "Hi")
        + ANSWER,
    ),
    "an image that the assistant showed": (
        {"messages": [HI, {"role": "assistant", "content": ["IMAGE", "this"]}, HI]},
        DEFAULT
        + turn("user", "Hi")
        + turn("assistant", f"{IMAGE}this")
        + turn("user", "Hi")
        + ANSWER,
    ),
    "calls and results": (
        {
            "messages": [
                HI,
                called('{"at": "ä"}', "Well."),
                gave("one", "two"),
                {"role": "tool", "tool_call_id": "c", "content": "three"},
                called(""),
                HI,
            ],
            "tools": [TOOL],
        },
        DEFAULT.replace("<|im_end|>\n", TOOLS_SECTION)
        + turn("user", "Hi")
        + f"<|im_start|>assistant\nWell.{CALL}<|im_end|>\n"
        + "<|im_start|>user\n<tool_response>\none\ntwo\n</tool_response>"
        + "\n<tool_response>\nthree\n</tool_response><|im_end|>\n"
        + f"<|im_start|>assistant{NO_ARGUMENTS}<|im_end|>\n{turn('user', 'Hi')}{ANSWER}",
    ),
    "results with media": (
        {
            "messages": [HI, called('{"at": "ä"}'), gave("so: ", "IMAGE"), gave("VIDEO")],
            "tools": [TOOL],
        },
        DEFAULT.replace("<|im_end|>\n", TOOLS_SECTION)
        + turn("user", "Hi")
        + f"<|im_start|>assistant{CALL}<|im_end|>\n"
        + f"<|im_start|>user\n<tool_response>\nso: {IMAGE}\n</tool_response>"
        + f"\n<tool_response>\n{VIDEO}\n</tool_response><|im_end|>\n{ANSWER}",
    ),
    "results without tools": (
        {"messages": [HI, called("{}"), gave("IMAGE")]},
        DEFAULT
        + turn("user", "Hi")
        + f"<|im_start|>assistant{NO_ARGUMENTS}<|im_end|>\n"
        + f"<|im_start|>user\n<tool_response>\n{IMAGE}\n</tool_response><|im_end|>\n{ANSWER}",
    ),
    "the last message goes on": (
        {
            "messages": [
                {"role": "user", "content": ["IMAGE"]},
                {"role": "assistant", "content": "It is"},
            ],
            "continue_final_message": True,
            "add_generation_prompt": False,
        },
        DEFAULT + turn("user", IMAGE) + "<|im_start|>assistant\nIt is",
    ),
    "the last message goes on beside tools": (
        {
            "messages": [
                {"role": "user", "content": ["IMAGE"]},
                {"role": "assistant", "content": "It is"},
            ],
            "tools": [TOOL],
            "continue_final_message": True,
            "add_generation_prompt": False,
        },
        DEFAULT.replace("<|im_end|>\n", TOOLS_SECTION)
        + turn("user", IMAGE)
        + "<|im_start|>assistant\nIt is",
    ),
    "no turn of the assistant": (
        {"messages": [HI], "add_generation_prompt": False},
        DEFAULT + turn("user", "Hi"),
    ),
}


@pytest.fixture(scope="module")
def filled(image_url, clip_url):
    """A body with its media."""
    parts = {
        "IMAGE": {"type": "image_url", "image_url": {"url": image_url(56, 56)}},
        "VIDEO": {"type": "video_url", "video_url": {"url": clip_url}, "nframes": 2},
    }

    def fill(value):
        if isinstance(value, dict):
            return {key: fill(one) for key, one in value.items()}
        if isinstance(value, list):
            return [fill(one) for one in value]
        return parts.get(value, value) if isinstance(value, str) else value

    return fill


@pytest.mark.parametrize("name", PROMPTS)
def test_the_prompt(server, filled, name):
    body, prompt = PROMPTS[name]
    body = {"model": "demo", "max_tokens": 1, "return_token_ids": True, **filled(body)}
    answer = server.post(body)
    assert answer.status_code == 200, answer.text
    ids = answer.json()["prompt_token_ids"]
    assert collapsed(TOKENIZER.decode(ids)) == prompt
    counted = server.post(
        {key: body[key] for key in body.keys() - {"max_tokens"}}, "/v1/vision/plan"
    ).json()
    assert counted["prompt_tokens"] == len(ids)


def collapsed(prompt: str) -> str:
    return re.sub(r"(<\|(?:image|video)_pad\|>)+", r"\1", prompt)


def test_a_response_with_an_image_in_its_system_message_and_tools(server, image_url):
    image = {"type": "input_image", "image_url": image_url(56, 56)}
    tool = {"type": "function", **TOOL["function"]}
    given = [{"role": "system", "content": [image]}, {"role": "user", "content": "Hi"}]
    body = {"model": "demo", "input": given, "tools": [tool], "max_output_tokens": 2}
    answer = server.post(body, "/v1/responses")
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["input_tokens_details"]["image_tokens"] == 4


def test_the_demo_gives_the_right_answers(server, tmp_path):
    said = subprocess.run(
        [*saccade_command(), "demo", "--url", server.url, "--boxes", str(tmp_path / "boxes.png")],
        capture_output=True,
        text=True,
        env={**os.environ, "OPENAI_API_KEY": conftest.KEY},
    )
    assert said.returncode == 0, said.stderr
    answers = re.findall(r"(.+)\n\[right: .+\]", said.stdout)
    assert len(answers) == len(QUESTIONS)
    for question, answer in zip(QUESTIONS, answers, strict=True):
        assert question.is_right(answer), (question.told(), answer)


def test_the_log_says_which_templates_are_used(server):
    (line,) = re.findall(r"chat template: (.*)", server.log.read_text())
    assert line == (
        "chat_template.json and tokenizer_config.json, and Saccade's for tools beside "
        "media, tools beside media in system messages, media in tool results"
    )
