"""The way of one request, top to bottom: `generate`, which every prompt passes, whatever the API.

An `Endpoint` says what an API leaves out: text completions have no media; where a prompt is only
counted nothing is admitted or decoded.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.responses import JSONResponse, Response

from saccade.server.admission.controller import TICKET, Ticket
from saccade.server.admission.pricing import estimate_request
from saccade.server.core.request_context import CALLER, annotate_request
from saccade.server.engine.client import Engine
from saccade.server.flow.media import blank_media, decode_media, plan_media
from saccade.server.flow.services import Services
from saccade.server.http.connection import EventStream, read_json, while_connected
from saccade.server.request.parsed_request import BodyFormat, ParsedRequest, parse_request
from saccade.server.request.vision import SeenMedium, VisionTokens
from saccade.server.response.edits import (
    Edit,
    Failure,
    VisionUsageEdit,
    WarningsEdit,
    chat_failure,
    finish_events,
    log_warning,
)
from saccade.server.response.history import history_for_model
from saccade.server.response.source_coordinates import SourceCoordinatesEdit
from saccade.server.response.vision_report import VisionReportEdit


@dataclass(frozen=True)
class Answer:
    """vLLM's answer, not yet edited: a dict, or server-sent events. And what it answers."""

    content: Any
    request: ParsedRequest
    seen: tuple[SeenMedium, ...]  # in the order of the prompt
    tokens: VisionTokens


@dataclass(frozen=True)
class Endpoint:
    """One API.

    Attributes:
        form: how its bodies hold their prompt.
        call: the engine's method that answers it.
        runs_model: requests are admitted and their media decoded; otherwise prompts are counted.
    """

    form: BodyFormat
    call: Callable[[Engine, Mapping[str, Any], Request], Awaitable[Any]]
    runs_model: bool = True


async def generate(raw: Request, endpoint: Endpoint) -> Answer:
    """Reads a body and parses it, plans its media, waits for admission, decodes, runs the engine;
    unless the client or the engine is gone before.

    Raises:
        ApiError, MediaError: whatever is wrong with the request, its media or the engine.
        ClientDisconnect: the client has left.
    """
    services: Services = raw.app.state.services
    engine, loader, admission = services.engine, services.loader, services.admission
    ticket: Ticket = raw.scope[TICKET]
    limits = services.settings.request_limits
    body = await read_json(raw, int(services.settings.max_request_bytes))
    with while_connected(raw, services.lifecycle.engine_death):
        request = parse_request(body, endpoint.form, limits, engine.options)
        for warning in request.warnings:
            log_warning(warning)
        owner = raw.scope.get(CALLER, "")
        planned = await plan_media(request.media, loader, admission, ticket, owner)
        priority = None
        if endpoint.runs_model:
            media_tokens = [medium.plan.tokens for medium in planned]
            media_bytes = sum(map(engine.media.held_bytes, planned))
            await admission.admit(ticket, estimate_request(request, media_tokens, media_bytes))
            priority = ticket.request_class
            media = await decode_media(planned, loader, engine.media)
        else:
            media = blank_media(planned)
        del planned  # files are not kept while the answer is generated, and nor are pixels
        # Decoding may find fewer frames than planned for.
        seen = tuple(
            SeenMedium(part.path, medium.plan, medium.sideways)
            for part, medium in zip(request.media, media, strict=True)
        )
        tokens = VisionTokens.of(seen)
        if seen:
            annotate_request(image_tokens=tokens.image, video_tokens=tokens.video)
        if request.vision.history == "source":
            request = history_for_model(request, seen)
        content = await engine.run(endpoint.call, request, media, raw, priority)
        return Answer(content, request, seen, tokens)


def respond(answer: Answer, failure: Failure = chat_failure) -> Response:
    """vLLM's answer or stream, edited; ``failure`` is how the stream tells an error."""
    content = edited(answer, failure)
    return JSONResponse(content) if isinstance(content, dict) else EventStream(content)


def edited(answer: Answer, failure: Failure) -> dict[str, Any] | AsyncGenerator[str]:
    """What `respond` sends: an answer, or server-sent events."""
    options = answer.request.vision
    edits: list[Edit] = [VisionUsageEdit(answer.tokens)]
    if options.report:
        edits.append(VisionReportEdit(answer.seen))
    if "source" in (options.coordinates, options.times):
        edits.append(SourceCoordinatesEdit(options, [medium.plan for medium in answer.seen]))
    if answer.request.warnings:
        edits.append(WarningsEdit(answer.request.warnings))
    if isinstance(answer.content, AsyncGenerator):
        return finish_events(answer.content, edits, failure)
    content: dict[str, Any] = answer.content
    for edit in edits:
        edit.edit(content)
    return content
