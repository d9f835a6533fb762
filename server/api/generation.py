"""The HTTP routes that run the model: OpenAI's chat and text completions."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from saccade.server.engine.client import Engine
from saccade.server.flow.generate import Endpoint, generate, respond
from saccade.server.request.parsed_request import CHAT, COMPLETION

router = APIRouter()

_CHAT = Endpoint(CHAT, Engine.chat)
_COMPLETIONS = Endpoint(COMPLETION, Engine.complete)


@router.post("/v1/chat/completions")
async def chat_completions(request: Request) -> Response:
    """OpenAI's chat completions, with images, videos and Qwen's controls of them."""
    return respond(await generate(request, _CHAT))


@router.post("/v1/completions")
async def completions(request: Request) -> Response:
    """OpenAI's text completions. They take no media."""
    return respond(await generate(request, _COMPLETIONS))
