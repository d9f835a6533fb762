"""A conversation as a request to a server: its media as files without loss, its controls beside."""

import base64
import io
import json
from typing import Any

import av
from PIL import Image

from saccade.demo.conversations.conversation import Conversation, Medium
from saccade.demo.world.examples import clip_controls
from saccade.demo.world.scenes import Pixels


def request(conversation: Conversation, constrained: bool = False) -> dict[str, Any]:
    """The fields of a chat request that asks for the conversation's last answer.

    Args:
        constrained: whether to hold the answer to a schema, which is made from the right one.
    """
    media = iter(conversation.media)
    messages = []
    for message in conversation.messages[:-1]:
        content, calls = message["content"], message.get("tool_calls", ())
        if isinstance(content, list):
            content = [part if "text" in part else medium_part(next(media)) for part in content]
        sent = {**message, "content": content}
        if calls:
            sent["tool_calls"] = [_as_sent(call) for call in calls]
        messages.append(sent)
    fields: dict[str, Any] = {"messages": messages}
    if conversation.tools:
        fields["tools"] = conversation.tools
    if constrained:
        schema = {"name": "answer", "schema": _schema(json.loads(conversation.said[-1].text))}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    return fields


def _as_sent(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {**call, "function": {**function, "arguments": json.dumps(function["arguments"])}}


def _schema(answer: dict[str, Any]) -> dict[str, Any]:
    kinds = {str: "string", int: "integer"}
    fields = {name: {"type": kinds[type(value)]} for name, value in answer.items()}
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


def medium_part(medium: Medium) -> dict[str, Any]:
    """The image or video as a data: URL in a part of a message."""
    if medium.clip is None:
        assert medium.example.source is not None
        Image.fromarray(medium.example.source).save(file := io.BytesIO(), "PNG")
        return {"type": "image_url", "image_url": {"url": _data_url("image/png", file.getvalue())}}
    clip, asked = medium.clip, clip_controls(medium.clip, medium.fps)
    assert asked.resized_width is not None
    assert asked.resized_height is not None
    encoded = encode_lossless(clip.render(range(clip.frames)), clip.fps)
    return {
        "type": "video_url",
        "video_url": {"url": _data_url("video/quicktime", encoded)},
        "fps": medium.fps,
        "resized_width": asked.resized_width,
        "resized_height": asked.resized_height,
    }


def _data_url(media_type: str, file: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(file).decode('ascii')}"


def encode_lossless(frames: Pixels, fps: int) -> bytes:
    """Frames ``[n, height, width, 3]`` as a QuickTime file whose pixels come back unchanged."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mov") as container:
        stream = container.add_stream("qtrle", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()
