"""``POST /v1/vision/plan``: what a chat request would cost. Nothing is decoded, no model runs."""

from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from saccade.server.admission.pricing import Price
from saccade.server.core.errors import CONTEXT_LENGTH_EXCEEDED
from saccade.server.flow.gate import FetchGate
from saccade.server.flow.media import load_blank
from saccade.server.flow.prompts import CHAT, prepared_prompt
from saccade.server.flow.services import Services, run_with_body
from saccade.server.middleware.admission import ticket_of
from saccade.server.request.vision_options import read_vision_options
from saccade.server.response.vision_report import MediumReport, report_media

router = APIRouter()


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


@router.post("/v1/vision/plan")
async def vision_plan(request: Request) -> JSONResponse:
    """What a chat request would cost: sizes, grids, frame times, tokens. Runs no model."""
    plan = await run_with_body(request, _plan)
    return JSONResponse(plan.model_dump(mode="json"))


async def _plan(services: Services, body: dict[str, Any], request: Request) -> VisionPlan:
    read_vision_options(body)
    body.pop("vision", None)
    gate = FetchGate(ticket_of(request))
    async with prepared_prompt(services, body, CHAT, load_blank, gate) as prepared:
        counted = await services.engine.count_chat(body, request)
    tokens = prepared.tokens
    price = Price(counted["count"], 1, tokens.image + tokens.video)
    refusal = services.admission.verdict(price).refusal
    reason = refusal.code if refusal else None
    # One token must be left for the answer; however many are asked for, it gets what is left.
    if counted["count"] >= counted["max_model_len"]:
        reason = CONTEXT_LENGTH_EXCEEDED
    return VisionPlan(
        media=report_media(prepared.seen),
        text_tokens=counted["count"] - tokens.image - tokens.video,
        image_tokens=tokens.image,
        video_tokens=tokens.video,
        prompt_tokens=counted["count"],
        max_model_len=counted["max_model_len"],
        admitted=reason is None,
        reason=reason,
    )
