"""The HTTP routes that run the model: OpenAI's, by vLLM's serving classes."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from saccade.server.answers import Edit, UsageTokens, finish_events
from saccade.server.connection import read_json, while_connected
from saccade.server.content import refuse_placeholders
from saccade.server.errors import InvalidRequest
from saccade.server.preparation import VisionTokens, prepared_messages
from saccade.server.services import Services, services_of
from saccade.server.vision_options import read_vision_options
from saccade.server.vllm_adapter import Engine

router = APIRouter()

# Fields of vLLM's requests that would change how media are processed for everybody, hand the
# engine something it trusts, or make it talk to hosts that the client names.
_REFUSED_FIELDS = {
    "mm_processor_kwargs": "controls of pictures and clips belong beside them",
    "media_io_kwargs": "controls of pictures and clips belong beside them",
    "prompt_embeds": "embeddings from clients are not served",
    "chat_template": "the server's template is used",
}
# Fields whose text reaches the prompt.
_PROMPT_FIELDS = ("messages", "tools", "documents", "chat_template_kwargs")
_TRANSFER_FIELDS = ("kv_transfer_params", "ec_transfer_params")


@router.post("/v1/chat/completions")
async def chat_completions(request: Request) -> Response:
    """OpenAI's chat completions, with pictures, clips and Qwen's controls of them."""
    services = services_of(request)
    body = await read_json(request, int(services.settings.max_request_bytes))
    return await while_connected(request, _chat(services, body, request))


@router.post("/v1/completions")
async def completions(request: Request) -> Response:
    """OpenAI's text completions. They take no media."""
    services = services_of(request)
    body = await read_json(request, int(services.settings.max_request_bytes))
    return await while_connected(request, _complete(services, body, request))


async def _chat(services: Services, body: dict[str, Any], request: Request) -> Response:
    _refuse_fields(body, services.engine)
    read_vision_options(body)
    body.pop("vision", None)
    async with prepared_messages(
        body.get("messages"), services.loader, services.handles
    ) as prepared:
        if "messages" in body:
            body["messages"] = prepared.messages
        if prepared.seen:
            for name in _PROMPT_FIELDS:
                refuse_placeholders(body.get(name), name)
        answer = await services.engine.chat(body, request)
    return _respond(answer, [UsageTokens(prepared.tokens)])


async def _complete(services: Services, body: dict[str, Any], request: Request) -> Response:
    _refuse_fields(body, services.engine)
    answer = await services.engine.complete(body, request)
    return _respond(answer, [UsageTokens(VisionTokens())])


def _respond(answer: Any, edits: Sequence[Edit]) -> Response:
    if isinstance(answer, AsyncGenerator):
        return StreamingResponse(
            finish_events(answer, edits),
            media_type="text/event-stream",
            # Proxies that collect an answer before they pass it on would undo the streaming.
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )
    for edit in edits:
        edit.answer(answer)
    return JSONResponse(answer)


def _refuse_fields(body: Mapping[str, Any], engine: Engine) -> None:
    for name, why in _REFUSED_FIELDS.items():
        if body.get(name):
            raise InvalidRequest(f"{name} is not supported: {why}", name)
    if engine.takes_transfers:
        return
    # vLLM puts the extra arguments beside the transfers', so they would reach them that way too.
    extra = body.get("vllm_xargs")
    for name in _TRANSFER_FIELDS:
        for holder, path in ((body, name), (extra, f"vllm_xargs.{name}")):
            if isinstance(holder, Mapping) and holder.get(name):
                raise InvalidRequest(f"{name} is not supported: no transfer is configured", path)
