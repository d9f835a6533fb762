"""``POST /v1/vision/plan``: what a chat request would cost. Nothing is decoded, no model runs."""

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from saccade.server.core.errors import CONTEXT_LENGTH_EXCEEDED
from saccade.server.engine.client import Engine
from saccade.server.flow.generate import Endpoint, generate
from saccade.server.flow.services import Services
from saccade.server.request.parsed_request import COUNTED_CHAT
from saccade.server.response.vision_report import MediumReport, report_media

router = APIRouter()

_PLAN = Endpoint(COUNTED_CHAT, Engine.count_chat, runs_model=False)


class VisionPlan(BaseModel):
    """What a chat request would cost."""

    object: Literal["vision.plan"] = "vision.plan"
    media: list[MediumReport] = Field(description="in the order of the prompt")
    text_tokens: int = Field(description="of text, the template's included")
    image_tokens: int
    video_tokens: int
    prompt_tokens: int = Field(description="all of them together")
    max_model_len: int = Field(description="tokens that prompt and answer may take together")
    admitted: bool = Field(description="whether the request would be taken")
    reason: str | None = Field(
        description="the `error.code` that it would get", examples=[CONTEXT_LENGTH_EXCEEDED]
    )
    warnings: list[str] = Field(description="what was left out of the request")


@router.post("/v1/vision/plan")
async def vision_plan(request: Request) -> Response:
    """What a chat request would cost: sizes, grids, frame times, tokens. Runs no model."""
    services: Services = request.app.state.services
    answer = await generate(request, _PLAN)
    count, context, tokens = answer.content["count"], answer.content["max_model_len"], answer.tokens
    refusal = services.admission.limits.refusal(tokens.image + tokens.video)
    reason = refusal.code if refusal else None
    # One token must be left for the answer; however many are asked for, it gets what is left.
    if count >= context:
        reason = CONTEXT_LENGTH_EXCEEDED
    plan = VisionPlan(
        media=report_media(answer.seen),
        text_tokens=count - tokens.image - tokens.video,
        image_tokens=tokens.image,
        video_tokens=tokens.video,
        prompt_tokens=count,
        max_model_len=context,
        admitted=reason is None,
        reason=reason,
        warnings=list(answer.request.warnings),
    )
    return JSONResponse(plan.model_dump(mode="json"))
