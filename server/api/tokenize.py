"""``POST /tokenize`` and ``POST /detokenize``. The model does not run."""

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from saccade.server.engine.client import Engine
from saccade.server.flow.generate import Endpoint, serve
from saccade.server.http.connection import read_json, while_connected
from saccade.server.request.parsed_request import TOKENIZATION

router = APIRouter()

_TOKENIZE = Endpoint(
    TOKENIZATION,
    Engine.tokenize,
    lambda _, answer: JSONResponse(answer.content),
    runs_model=False,
)


@router.post("/tokenize")
async def tokenize(request: Request) -> Response:
    """The tokens of a prompt or of chat messages; every token of their media is among them."""
    return await serve(request, _TOKENIZE)


@router.post("/detokenize")
async def detokenize(request: Request) -> JSONResponse:
    """The text of tokens."""
    services = request.app.state.services
    body = await read_json(request, int(services.settings.max_request_bytes))
    work = services.engine.detokenize(body, request)
    return JSONResponse(await while_connected(request, work, services.lifecycle.engine_death))
