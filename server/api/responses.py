"""``POST /v1/responses``: OpenAI's Responses API, by vLLM's serving class."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from saccade.server.api.generation import gate_of, respond, vision_edits
from saccade.server.core.errors import InvalidRequest
from saccade.server.flow.prompts import RESPONSE, prepared_prompt
from saccade.server.flow.services import Services, run_with_body
from saccade.server.request.vision_options import read_vision_options
from saccade.server.response.edits import response_failure

router = APIRouter()

# vLLM keeps responses for ever, in the memory of one of its processes, or drops these silently.
_REFUSED_FIELDS = {
    "background": "responses are not stored",
    "previous_response_id": "responses are not stored; send the whole conversation as input",
    "conversation": "responses are not stored; send the whole conversation as input",
    "previous_input_messages": "send the whole conversation as input",
}
_TOOL_TYPES = ("function", "custom", "namespace")


@router.post("/v1/responses")
async def responses(request: Request) -> Response:
    """OpenAI's responses, with pictures, clips and Qwen's controls of them. Nothing is stored."""
    return await run_with_body(request, _respond)


async def _respond(services: Services, body: dict[str, Any], request: Request) -> Response:
    _refuse_stored(body)
    services.settings.request_limits.bound(body, RESPONSE.answer_fields)
    options = read_vision_options(body)
    body.pop("vision", None)
    gate = gate_of(services, body, request, RESPONSE.field)
    async with prepared_prompt(services, body, RESPONSE, gate=gate) as prepared:
        answer = await services.engine.respond(body, request)
    return respond(answer, vision_edits(options, prepared), response_failure)


def _refuse_stored(body: dict[str, Any]) -> None:
    for name, why in _REFUSED_FIELDS.items():
        if body.get(name):
            raise InvalidRequest(f"{name} is not supported: {why}", name)
    tools = body.get("tools")
    for number, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind not in _TOOL_TYPES:
            raise InvalidRequest(
                f"tools of type {str(kind)[:64]!r} are not served; use {', '.join(_TOOL_TYPES)}",
                f"tools[{number}].type",
            )
