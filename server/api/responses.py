"""``POST /v1/responses``: OpenAI's Responses API, and its count of tokens."""

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from saccade.server.engine.client import Engine
from saccade.server.flow.generate import Endpoint, generate, respond
from saccade.server.request.parsed_request import COUNTED_RESPONSE, RESPONSE
from saccade.server.response.edits import response_failure

router = APIRouter()

_RESPONSES = Endpoint(RESPONSE, Engine.respond)
_COUNT = Endpoint(COUNTED_RESPONSE, Engine.count_response, runs_model=False)


@router.post("/v1/responses")
async def responses(request: Request) -> Response:
    """OpenAI's responses, with images, videos and Qwen's controls of them. Nothing is stored."""
    return respond(await generate(request, _RESPONSES), response_failure)


@router.post("/v1/responses/input_tokens")
async def input_tokens(request: Request) -> Response:
    """The tokens of a response's input, media included. The model does not run."""
    count = (await generate(request, _COUNT)).content["count"]
    return JSONResponse({"object": "response.input_tokens", "input_tokens": count})
