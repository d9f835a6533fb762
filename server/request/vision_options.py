"""The request's ``vision`` field: what a caller asks beyond OpenAI's API. Pure."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

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
