"""The HTTP routes that run the model: OpenAI's, by vLLM's serving classes."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from saccade.server.flow.gate import Gate
from saccade.server.flow.media import PreparedMessages
from saccade.server.flow.prompts import CHAT, prepared_prompt, refuse_fields
from saccade.server.flow.services import Services, run_with_body
from saccade.server.http.event_stream import EventStream
from saccade.server.middleware.admission import ticket_of
from saccade.server.request.media import VisionTokens
from saccade.server.request.vision_options import VisionOptions, read_vision_options
from saccade.server.response.edits import Edit, Failure, UsageTokens, chat_failure, finish_events
from saccade.server.response.source_coordinates import SourceAnswers
from saccade.server.response.vision_report import ReportMedia

router = APIRouter()


@router.post("/v1/chat/completions")
async def chat_completions(request: Request) -> Response:
    """OpenAI's chat completions, with pictures, clips and Qwen's controls of them."""
    return await run_with_body(request, _chat)


@router.post("/v1/completions")
async def completions(request: Request) -> Response:
    """OpenAI's text completions. They take no media."""
    return await run_with_body(request, _complete)


async def _chat(services: Services, body: dict[str, Any], request: Request) -> Response:
    services.settings.request_limits.bound(body, CHAT.answer_fields)
    options = read_vision_options(body)
    body.pop("vision", None)
    gate = gate_of(services, body, request, CHAT.field)
    async with prepared_prompt(services, body, CHAT, gate=gate) as prepared:
        answer = await services.engine.chat(body, request)
    return respond(answer, vision_edits(options, prepared))


async def _complete(services: Services, body: dict[str, Any], request: Request) -> Response:
    services.settings.request_limits.check(body)
    refuse_fields(body, services.engine)
    prompt = body.get("prompt")
    # A list is several prompts, unless it is the token ids of one.
    several = isinstance(prompt, list) and not all(isinstance(one, int) for one in prompt)
    prompts = len(prompt) if several and isinstance(prompt, list) else 1
    await gate_of(services, body, request, "prompt").admit(prompt, prompts=prompts)
    answer = await services.engine.complete(body, request)
    return respond(answer, [UsageTokens(VisionTokens())])


def gate_of(services: Services, body: dict[str, Any], request: Request, param: str) -> Gate:
    """Where the request, whose prompt is in the field ``param``, is admitted."""
    return Gate(ticket_of(request), body, param, services.engine.orders_by_priority)


def vision_edits(options: VisionOptions, prepared: PreparedMessages) -> list[Edit]:
    """What an answer says of the request's media."""
    edits: list[Edit] = [UsageTokens(prepared.tokens)]
    if options.report:
        edits.append(ReportMedia(prepared.seen))
    if "source" in (options.coordinates, options.times):
        edits.append(SourceAnswers(options, [medium.plan for medium in prepared.seen]))
    return edits


def respond(answer: Any, edits: Sequence[Edit], failure: Failure = chat_failure) -> Response:
    """vLLM's answer or stream, edited; ``failure`` is how the stream tells an error."""
    if isinstance(answer, AsyncGenerator):
        return EventStream(finish_events(answer, edits, failure))
    for edit in edits:
        edit.answer(answer)
    return JSONResponse(answer)
