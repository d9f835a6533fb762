"""The HTTP routes. Everything else of vLLM's API is not mounted."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from saccade.media.loader import MediaLoader
from saccade.server.answers import add_vision_tokens, finish_events
from saccade.server.connection import read_json, while_connected
from saccade.server.content import refuse_placeholders
from saccade.server.errors import InvalidRequest, Unavailable
from saccade.server.handles import MediaHandles
from saccade.server.lifecycle import Lifecycle
from saccade.server.preparation import VisionTokens, prepared_messages
from saccade.server.settings import Settings
from saccade.server.vllm_adapter import VLLM_VERSION, Engine

router = APIRouter()

# Fields of vLLM's requests that would change how media are processed for everybody, hand the
# engine something it trusts, or make it talk to hosts that the client names.
_REFUSED_FIELDS = {
    "mm_processor_kwargs": "controls of pictures and clips belong beside them",
    "media_io_kwargs": "controls of pictures and clips belong beside them",
    "prompt_embeds": "embeddings from clients are not served",
    "chat_template": "the server's template is used",
    "vision": "this version neither reports nor maps coordinates",
}
# Fields whose text reaches the prompt.
_PROMPT_FIELDS = ("messages", "tools", "documents", "chat_template_kwargs")
_TRANSFER_FIELDS = ("kv_transfer_params", "ec_transfer_params")


@dataclass(frozen=True)
class Services:
    """What the routes work with; on ``app.state.services``."""

    engine: Engine
    settings: Settings
    loader: MediaLoader
    handles: MediaHandles
    lifecycle: Lifecycle


@router.post("/v1/chat/completions")
async def chat_completions(request: Request) -> Response:
    """OpenAI's chat completions, with pictures, clips and Qwen's controls of them."""
    services = _services(request)
    body = await read_json(request, int(services.settings.max_request_bytes))
    return await while_connected(request, _chat(services, body, request))


@router.post("/v1/completions")
async def completions(request: Request) -> Response:
    """OpenAI's text completions. They take no media."""
    services = _services(request)
    body = await read_json(request, int(services.settings.max_request_bytes))
    return await while_connected(request, _complete(services, body, request))


@router.get("/v1/models")
async def models(request: Request) -> JSONResponse:
    """The served model and its adapters."""
    return JSONResponse(await _services(request).engine.models())


@router.get("/health")
async def health(request: Request) -> JSONResponse:
    """Whether process and engine are alive; red means: restart."""
    if not await _services(request).engine.is_alive():
        raise Unavailable("the engine has died", code="engine_dead")
    return JSONResponse({"status": "alive"})


@router.get("/ready")
async def ready(request: Request) -> JSONResponse:
    """Whether to send requests here; red while the server drains. (The model is loaded before
    the port answers at all.)"""
    services = _services(request)
    if services.lifecycle.draining:
        raise Unavailable("the server is shutting down", code="draining")
    if not await services.engine.is_alive():
        raise Unavailable("the engine has died", code="engine_dead")
    return JSONResponse({"status": "ready"})


@router.get("/version")
async def versions() -> JSONResponse:
    """Versions of Saccade and of the vLLM below it."""
    return JSONResponse({"version": version("saccade"), "vllm": VLLM_VERSION})


async def _chat(services: Services, body: dict[str, Any], request: Request) -> Response:
    _refuse_fields(body, services.engine)
    async with prepared_messages(
        body.get("messages"), services.loader, services.handles
    ) as prepared:
        if "messages" in body:
            body["messages"] = prepared.messages
        if prepared.has_media:
            for name in _PROMPT_FIELDS:
                refuse_placeholders(body.get(name), name)
        answer = await services.engine.chat(body, request)
    return _respond(answer, prepared.tokens)


async def _complete(services: Services, body: dict[str, Any], request: Request) -> Response:
    _refuse_fields(body, services.engine)
    return _respond(await services.engine.complete(body, request), VisionTokens())


def _respond(answer: Any, tokens: VisionTokens) -> Response:
    if isinstance(answer, AsyncGenerator):
        return StreamingResponse(
            finish_events(answer, tokens),
            media_type="text/event-stream",
            # Proxies that collect an answer before they pass it on would undo the streaming.
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )
    add_vision_tokens(answer, tokens)
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


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services
