"""``POST /v1/responses``: OpenAI's Responses API."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from saccade.server.engine.client import Engine
from saccade.server.flow.generate import Endpoint, generate, respond
from saccade.server.request.parsed_request import RESPONSE
from saccade.server.response.edits import response_failure

router = APIRouter()

_RESPONSES = Endpoint(RESPONSE, Engine.respond)


@router.post("/v1/responses")
async def responses(request: Request) -> Response:
    """OpenAI's responses, with images, videos and Qwen's controls of them. Nothing is stored."""
    return respond(await generate(request, _RESPONSES), response_failure)
