"""Fields of vLLM's requests that this server refuses: the one table. Pure."""

from collections.abc import Mapping
from typing import Any

from saccade.server.core.errors import InvalidRequest

# They would change how media are processed for everybody, hand the engine something it trusts, or
# make it talk to hosts that the client names.
_EVERYWHERE = {
    "mm_processor_kwargs": "controls of images and videos belong beside them",
    "media_io_kwargs": "controls of images and videos belong beside them",
    "prompt_embeds": "embeddings from clients are not served",
    "chat_template": "the server's template is used",
    "priority": "the server orders requests by what they take",
}
# vLLM puts the extra arguments beside the transfers', so they would reach them that way too.
_TRANSFERS = ("kv_transfer_params", "ec_transfer_params")
# vLLM keeps responses for ever, in the memory of one of its processes, or drops these silently.
_STORED_RESPONSES = {
    "background": "responses are not stored",
    "previous_response_id": "responses are not stored; send the whole conversation as input",
    "conversation": "responses are not stored; send the whole conversation as input",
    "previous_input_messages": "send the whole conversation as input",
}
_RESPONSE_TOOLS = ("function", "custom", "namespace")
# They would cut off the beginning of a prompt, and media with it.
_TRUNCATIONS = ("truncate_prompt_tokens", "truncation")

REFUSED_FIELDS = (*_EVERYWHERE, *_TRANSFERS, *_STORED_RESPONSES)
"""What the OpenAPI document leaves out of vLLM's schemas."""


def refuse_fields(body: Mapping[str, Any], accepts_kv_transfer: bool, stores: bool) -> None:
    """Refuses what this server does not take.

    Args:
        accepts_kv_transfer: a transfer is configured.
        stores: it is the Responses API, which would store its answers and run tools by itself.

    Raises:
        InvalidRequest: names the field.
    """
    for name, why in (_EVERYWHERE | _STORED_RESPONSES if stores else _EVERYWHERE).items():
        if body.get(name):
            raise InvalidRequest(f"{name} is not supported: {why}", name)
    extra = body.get("vllm_xargs")
    for name in () if accepts_kv_transfer else _TRANSFERS:
        for holder, path in ((body, name), (extra, f"vllm_xargs.{name}")):
            if isinstance(holder, Mapping) and holder.get(name):
                raise InvalidRequest(f"{name} is not supported: no transfer is configured", path)
    tools = body.get("tools")
    for number, tool in enumerate(tools if stores and isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind not in _RESPONSE_TOOLS:
            served = ", ".join(_RESPONSE_TOOLS)
            raise InvalidRequest(
                f"tools of type {str(kind)[:64]!r} are not served; use {served}",
                f"tools[{number}].type",
            )


def refuse_truncation(body: Mapping[str, Any]) -> None:
    """Refuses to cut off a prompt with media.

    Raises:
        InvalidRequest: names the field.
    """
    for name in _TRUNCATIONS:
        if body.get(name) not in (None, "disabled"):
            raise InvalidRequest("a prompt with media is not cut off", name)
