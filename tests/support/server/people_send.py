"""Requests as real clients send them, made anew from their documentation: no copies.

Each is asked about a medium of the demo whose right answer the bundled model gives, with the medium
before the question; `in_order` turns that round.
"""

import base64
from pathlib import Path
from typing import Any

_MEDIA = Path(__file__).parents[3] / "demo" / "media"


def _encoded(name: str) -> str:
    return base64.b64encode((_MEDIA / name).read_bytes()).decode()


SHAPES = _encoded("shapes.jpg")
SHAPES_URL = f"data:image/jpeg;base64,{SHAPES}"
SIGN_URL = f"data:image/jpeg;base64,{_encoded('sign.jpg')}"
EVENTS = _encoded("events.mp4")
EVENTS_URL = f"data:video/mp4;base64,{EVENTS}"
COLOUR = "What colour is the star?"
GREEN = "green"
LEAVES = "At what second does the blue square leave?"
AT = "00:04"
# The video's own size; frames are enlarged unless a request says otherwise.
OWN_SIZE = {"fps": 2.0, "resized_width": 140, "resized_height": 112}


def asked(*content: Any, question: str = COLOUR, **fields: Any) -> dict[str, Any]:
    """A chat request with parts before a question."""
    parts = [*content, {"type": "text", "text": question}]
    return {
        "model": "demo",
        "temperature": 0,
        "max_tokens": 32,
        "messages": [{"role": "user", "content": parts}],
        **fields,
    }


def image(url: str = SHAPES_URL, beside: dict[str, Any] | None = None, **inside: Any) -> Any:
    return {"type": "image_url", "image_url": {"url": url, **inside}, **(beside or {})}


def video(**controls: Any) -> Any:
    return {"type": "video_url", "video_url": {"url": EVENTS_URL}, **controls}


ORDERS = ("media first", "text first")


def in_order(body: dict[str, Any], order: str) -> dict[str, Any]:
    """The request with its last question before its media, or as it is."""
    if order == "media first":
        return body
    key = "messages" if "messages" in body else "input"
    *before, last = body[key]
    if not isinstance(last["content"], list):  # its media stand beside the text
        return body
    *media, question = last["content"]
    return {**body, key: [*before, {**last, "content": [question, *media]}]}


SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["red", "green", "blue"]}},
    "required": ["colour"],
    "additionalProperties": False,
}
SEEN = {
    "type": "function",
    "function": {"name": "seen", "description": "Tells a colour.", "parameters": SCHEMA},
}
NAMED = {"type": "function", "function": {"name": "seen"}}


def json_schema(name: str = "answer", **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": name, "schema": SCHEMA, **more}}


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def _with_system(body: dict[str, Any], text: str = "You are a helpful assistant.") -> Any:
    return {**body, "messages": [system(text), *body["messages"]]}


def _responses(*content: Any, **fields: Any) -> dict[str, Any]:
    parts = [*content, {"type": "input_text", "text": COLOUR}]
    message = {"type": "message", "role": "user", "content": parts}
    return {"model": "demo", "temperature": 0, "input": [message], **fields}


CHAT = {
    "strands-agents": _with_system(
        asked(
            image(detail="auto", format="image/jpeg"),
            tools=[],
            stream_options={"include_usage": True},
            stream=True,
        )
    ),
    "lmms-eval": asked(image(), media_io_kwargs={"video": {"num_frames": 8}}, num_beams=1),
    "litellm": asked(
        image(beside={"cache_control": {"type": "ephemeral"}}), extra_headers=None, user="me"
    ),
    "langchain": asked(image(), n=1, stream=False, stop=None),
    "langchain.js": asked({"type": "image", "mimeType": "image/jpeg", "data": SHAPES}),
    "langchain of older contents": asked(
        {"type": "image", "source_type": "base64", "mime_type": "image/jpeg", "data": SHAPES}
    ),
    "langchain of newer contents": asked(
        {"type": "image", "base64": SHAPES, "mime_type": "image/jpeg", "id": "lc_1"}
    ),
    "anthropic-minded": asked(
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/jpeg", "data": SHAPES},
            "cache_control": {"type": "ephemeral"},
        }
    ),
    "haystack": asked(
        {"type": "file", "file": {"filename": "shapes.jpg", "file_data": SHAPES_URL}}
    ),
    "pydantic-ai": {
        **asked(image(), tools=[SEEN], tool_choice="auto"),
        "messages": [
            {"role": "user", "content": "Look."},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "look", "arguments": "{}"},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "See file 1"},
            system("Be brief."),
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "This is file 1:"},
                    image(),
                    {"type": "text", "text": COLOUR},
                ],
            },
        ],
    },
    "ai sdk": asked(image(), stream=True, stream_options={"include_usage": True}),
    "openai-agents": _with_system(
        asked(image(detail="auto"), tool_choice=None, parallel_tool_calls=None, store=None)
    ),
    "browser-use": _with_system(
        asked(
            image(detail="auto"),
            response_format=json_schema("agent_output", strict=True),
            frequency_penalty=0.3,
            max_completion_tokens=4096,
            max_tokens=None,
            service_tier=None,
        )
    ),
    "docling": asked(image(), max_tokens=3000, seed=0),
    "olmocr": asked(image(), guided_regex="(green|red|blue)", max_tokens=3000),
    "mineru": asked(
        image(),
        skip_special_tokens=False,
        vllm_xargs={"no_repeat_ngram_size": 100, "debug": False},
        presence_penalty=0.0,
        repetition_penalty=1.0,
        top_k=1,
    ),
    "midscene": _with_system(
        asked(image(detail="high"), vl_high_resolution_images=True, stream=False)
    ),
    "frigate": _with_system(
        asked(
            {"type": "text", "text": "Image 1:"},
            image(detail="low"),
            response_format=json_schema("scene", strict=True),
        )
    ),
    "qwen-agent": asked(image(f"data:;base64,{SHAPES}"), seed=42, top_p=0.8),
    "inspect-ai": asked(image(detail="original"), logprobs=False),
    "open webui": asked(image(), stream=True, chat_id=None, session_id="s", id="m", metadata={}),
    "dashscope": asked(image(), max_pixels=1_003_520, vl_high_resolution_images=False),
    "ollama": {
        **asked(),
        "messages": [{"role": "user", "content": COLOUR, "images": [SHAPES]}],
    },
    "genai-bench": asked(
        image(), max_tokens=None, max_completion_tokens=8, ignore_eos=False, stream=True
    ),
    "guidellm": asked(
        image(),
        max_tokens=None,
        max_completion_tokens=8,
        stop=None,
        stream=True,
        stream_options={"include_usage": True, "continuous_usage_stats": True},
    ),
    "aiperf": asked(image(), max_tokens=None, max_completion_tokens=8, min_tokens=1, stream=True),
    "vllm bench": asked(
        image(), max_tokens=None, max_completion_tokens=8, repetition_penalty=1.0, stream=True
    ),
}
"""By client: what it sends about the image by default."""

CALLS = {
    "instructor": asked(image(), tools=[SEEN], tool_choice=NAMED),
    "langchain": asked(image(), tools=[SEEN], tool_choice=NAMED, parallel_tool_calls=False),
    "llamaindex": asked(
        image(),
        tools=[{**SEEN, "function": {**SEEN["function"], "strict": False}}],
        tool_choice="required",
        temperature=0.1,
        seed=1,
    ),
    "smolagents": asked(
        image(), tools=[SEEN], tool_choice="required", stop=["Observation:", "Calling tools:"]
    ),
    "agno": asked(image(), tools=[SEEN], tool_choice="required"),
    "clients of 2023": asked(image(), functions=[SEEN["function"]], function_call={"name": "seen"}),
}
"""By client: a function that it makes the model call, never with `strict`."""

SCHEMAS = {
    "openai": asked(image(), response_format=json_schema(strict=True)),
    "vercel": asked(image(), response_format=json_schema(), stream=False),
    "guided_json": asked(image(), guided_json=SCHEMA),
    "ollama": asked(image(), format=SCHEMA),
    "llama.cpp": asked(image(), json_schema=SCHEMA),
    "structured_outputs": asked(image(), structured_outputs={"json": SCHEMA}),
}
"""By client: JSON by a schema."""

VIDEOS = {
    "lmms-eval": asked(
        {**video(), "resized_width": 140, "resized_height": 112},
        question=LEAVES,
        media_io_kwargs={"video": {"fps": 2.0}},
    ),
    "ai sdk": asked(video(**OWN_SIZE), question=LEAVES),
    "langchain": asked(
        {
            "type": "file",
            "file": {"filename": "events.mp4", "file_data": EVENTS_URL},
            **OWN_SIZE,
        },
        question=LEAVES,
    ),
    "qwen-agent": asked(
        {"type": "video_url", "video_url": {"url": f"data:;base64,{EVENTS}"}, **OWN_SIZE},
        question=LEAVES,
    ),
    "dashscope": asked(
        {"type": "video_url", "video_url": {"url": EVENTS_URL}}, question=LEAVES, fps=2
    ),
}
"""By client: what it sends about the video."""

RESPONSES = {
    "openai-agents": _responses(
        {"type": "input_image", "image_url": SHAPES_URL, "detail": "auto"},
        include=[],
        store=True,
        tools=[],
    ),
    "litellm's anthropic_messages": _responses(
        {"type": "input_image", "image_url": SHAPES_URL}, max_output_tokens=32, metadata={"a": "b"}
    ),
    "a file": _responses({"type": "input_file", "filename": "shapes.jpg", "file_data": SHAPES_URL}),
}
"""By client: what it sends to the Responses API about the image."""


def planned(server, body):
    """The media of the plan of a body."""
    answer = server.post(body, "/v1/vision/plan")
    assert answer.status_code == 200, answer.text
    return answer.json()["media"]
