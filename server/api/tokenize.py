"""``POST /tokenize`` and ``POST /detokenize``. The model does not run."""

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from saccade.server.engine.client import Engine
from saccade.server.flow.generate import Answer, Endpoint, generate
from saccade.server.request.parsed_request import DETOKENIZATION, TOKENIZATION
from saccade.server.response.edits import WarningsEdit

router = APIRouter()


_TOKENIZE = Endpoint(TOKENIZATION, Engine.tokenize, runs_model=False)
_DETOKENIZE = Endpoint(DETOKENIZATION, Engine.detokenize, runs_model=False)


@router.post("/tokenize")
async def tokenize(request: Request) -> Response:
    """The tokens of a prompt or of chat messages; every token of their media is among them."""
    return _response(await generate(request, _TOKENIZE))


@router.post("/detokenize")
async def detokenize(request: Request) -> Response:
    """The text of tokens."""
    return _response(await generate(request, _DETOKENIZE))


def _response(answer: Answer) -> Response:
    if answer.request.warnings:
        WarningsEdit(answer.request.warnings).edit(answer.content)
    return JSONResponse(answer.content)
