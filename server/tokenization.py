"""``POST /tokenize`` and ``POST /detokenize``, by vLLM's serving class. The model does not run."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from saccade.server.admission_middleware import ticket_of
from saccade.server.connection import read_json, while_connected
from saccade.server.gate import FetchGate
from saccade.server.preparation import load_blank
from saccade.server.prompts import CHAT, prepared_prompt
from saccade.server.services import Services, services_of

router = APIRouter()


@router.post("/tokenize")
async def tokenize(request: Request) -> JSONResponse:
    """The tokens of a prompt or of chat messages; every token of their media is among them."""
    services = services_of(request)
    body = await read_json(request, int(services.settings.max_request_bytes))
    work = _tokenize(services, body, request)
    return JSONResponse(await while_connected(request, work, services.lifecycle.engine_death))


@router.post("/detokenize")
async def detokenize(request: Request) -> JSONResponse:
    """The text of tokens."""
    services = services_of(request)
    body = await read_json(request, int(services.settings.max_request_bytes))
    work = services.engine.detokenize(body, request)
    return JSONResponse(await while_connected(request, work, services.lifecycle.engine_death))


async def _tokenize(services: Services, body: dict[str, Any], request: Request) -> Any:
    gate = FetchGate(ticket_of(request))
    async with prepared_prompt(services, body, CHAT, load_blank, gate):
        return await services.engine.tokenize(body, request)
