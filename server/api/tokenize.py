"""``POST /tokenize`` and ``POST /detokenize``, by vLLM's serving class. The model does not run."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from saccade.server.flow.gate import FetchGate
from saccade.server.flow.media import load_blank
from saccade.server.flow.prompts import CHAT, prepared_prompt
from saccade.server.flow.services import Services, run_with_body
from saccade.server.middleware.admission import ticket_of

router = APIRouter()


@router.post("/tokenize")
async def tokenize(request: Request) -> JSONResponse:
    """The tokens of a prompt or of chat messages; every token of their media is among them."""
    return JSONResponse(await run_with_body(request, _tokenize))


@router.post("/detokenize")
async def detokenize(request: Request) -> JSONResponse:
    """The text of tokens."""
    return JSONResponse(await run_with_body(request, _detokenize))


async def _tokenize(services: Services, body: dict[str, Any], request: Request) -> Any:
    gate = FetchGate(ticket_of(request))
    async with prepared_prompt(services, body, CHAT, load_blank, gate):
        return await services.engine.tokenize(body, request)


async def _detokenize(services: Services, body: dict[str, Any], request: Request) -> Any:
    return await services.engine.detokenize(body, request)
