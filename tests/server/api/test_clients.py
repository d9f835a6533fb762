"""The clients that people use, each with a picture and a clip. All get the same answer."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from typing import Any, Literal

import openai
import pytest
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

TOKENS = 8
QUESTION = {"type": "text", "text": "What is it?"}
OPTIONS: dict[str, Any] = {"temperature": 0, "max_tokens": TOKENS}

Ask = Callable[[Any, list[dict[str, Any]]], str]


class Seen(BaseModel):
    """What a structured answer must be; its field leaves random weights little room."""

    colour: Literal["red", "blue"]


@pytest.fixture(params=["image", "video"])
def content(request: pytest.FixtureRequest, image_url, data_url, clip) -> list[dict[str, Any]]:
    if request.param == "image":
        medium = {"type": "image_url", "image_url": {"url": image_url(140, 84)}}
    else:
        url = data_url(clip, "video/mp4")
        medium = {"type": "video_url", "video_url": {"url": url}, "nframes": 4}
        medium |= {"resized_width": 84, "resized_height": 56}
    return [medium, QUESTION]


@pytest.fixture
def expected(server, content: list[dict[str, Any]]) -> str:
    """The answer over plain HTTP."""
    answer = server.post({**OPTIONS, "messages": messages(content)}).json()
    text = answer["choices"][0]["message"]["content"]
    assert text
    details = answer["usage"]["prompt_tokens_details"]
    assert (details["image_tokens"] > 0) != (details["video_tokens"] > 0)
    return text


def messages(content: list[dict[str, Any]]) -> list[Any]:
    return [{"role": "user", "content": content}]


def plain(client: openai.OpenAI, content: list[dict[str, Any]]) -> str:
    answer = client.chat.completions.create(model="demo", messages=messages(content), **OPTIONS)
    return answer.choices[0].message.content or ""


def streamed(client: openai.OpenAI, content: list[dict[str, Any]]) -> str:
    chunks = client.chat.completions.create(
        model="demo", messages=messages(content), stream=True, **OPTIONS
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def asynchronous(client: openai.OpenAI, content: list[dict[str, Any]]) -> str:
    async def ask() -> str:
        async with openai.AsyncOpenAI(
            base_url=client.base_url, api_key=client.api_key, max_retries=0
        ) as other:
            chunks = await other.chat.completions.create(
                model="demo", messages=messages(content), stream=True, **OPTIONS
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    return asyncio.run(ask())


def langchain(client: openai.OpenAI, content: list[dict[str, Any]]) -> str:
    model = ChatOpenAI(
        model="demo",
        base_url=str(client.base_url),
        api_key=client.api_key,
        max_retries=0,
        **OPTIONS,
    )
    whole = model.invoke(messages(content))
    assert whole.usage_metadata["output_tokens"] > 0
    chunks = "".join(str(chunk.content) for chunk in model.stream(messages(content)))
    assert chunks == whole.content
    return chunks


def curl(client: openai.OpenAI, content: list[dict[str, Any]]) -> str:
    body = json.dumps({"model": "demo", "messages": messages(content), **OPTIONS})
    command = ["curl", "--silent", "--fail-with-body", "--data-binary", "@-"]
    command += ["--header", "Content-Type: application/json"]
    command += ["--header", f"Authorization: Bearer {client.api_key}"]
    url = f"{client.base_url}chat/completions"
    done = subprocess.run([*command, url], input=body.encode(), capture_output=True, check=True)
    return json.loads(done.stdout)["choices"][0]["message"]["content"]


@pytest.mark.parametrize("ask", [plain, streamed, asynchronous, langchain, curl])
def test_a_picture_and_a_clip(
    client: openai.OpenAI, content: list[dict[str, Any]], expected: str, ask: Ask
) -> None:
    assert ask(client, content) == expected


def test_structured_output_by_the_clients_helpers(
    client: openai.OpenAI, content: list[dict[str, Any]]
) -> None:
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 32, "response_format": Seen}
    whole = client.chat.completions.parse(model="demo", messages=messages(content), **options)
    assert whole.choices[0].message.parsed in (Seen(colour="red"), Seen(colour="blue"))
    with client.chat.completions.stream(
        model="demo", messages=messages(content), **options
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == whole.choices[0].message.parsed


def test_a_tool_by_langchain(client: openai.OpenAI, content: list[dict[str, Any]]) -> None:
    model = ChatOpenAI(
        model="demo", base_url=str(client.base_url), api_key=client.api_key, temperature=0
    ).bind_tools([Seen], tool_choice="Seen", strict=True)
    (call,) = model.invoke(messages(content)).tool_calls
    assert call["name"] == "Seen"
    assert call["args"]["colour"] in ("red", "blue")
