"""What a caller asks of images and videos beyond OpenAI's API, and what was shown. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from saccade.media.planning.plan import ImagePlan, VideoPlan

Frame = Literal["model", "source"]


class VisionOptions(BaseModel):
    """What the answer says of images and videos. The default is a plain OpenAI answer."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    report: bool = Field(default=False, description="add `vision`: what the model was shown")
    coordinates: Frame = Field(
        default="model",
        description="`source`: boxes and points in pixels of the image as sent, upright",
    )
    times: Frame = Field(
        default="model", description="`source`: times count from the start of the video as sent"
    )
    history: Frame = Field(
        default="model",
        description="`source`: the assistant's messages in the request are answers with that "
        "`coordinates` and `times`, and go to the model as it wrote them",
    )


@dataclass(frozen=True)
class VisionTokens:
    """Prompt tokens by modality."""

    image: int = 0
    video: int = 0

    @classmethod
    def of(cls, seen: Iterable["SeenMedium"]) -> "VisionTokens":
        """What all media of a request take together."""
        plans = [medium.plan for medium in seen]
        return cls(
            sum(plan.tokens for plan in plans if isinstance(plan, ImagePlan)),
            sum(plan.tokens for plan in plans if isinstance(plan, VideoPlan)),
        )


@dataclass(frozen=True)
class SeenMedium:
    """What the model is shown of one medium. ``path`` is its part's place in the request."""

    path: str
    plan: ImagePlan | VideoPlan
    sideways: bool = False  # stored turned by a quarter; the plan's source size is upright
