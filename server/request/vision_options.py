"""The request's ``vision`` field: what a caller asks beyond OpenAI's API. Pure."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from saccade.server.core.errors import InvalidRequest

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


def read_vision_options(body: Mapping[str, Any]) -> VisionOptions:
    """The options in a request body; absent or null means the defaults.

    Raises:
        InvalidRequest: an unknown field or value; names it as ``vision.coordinates``.
    """
    options = body.get("vision")
    if options is None:
        return VisionOptions()
    if not isinstance(options, dict):
        raise InvalidRequest("vision must be an object", "vision")
    try:
        return VisionOptions.model_validate(options)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    name = str(first["loc"][0])[:64]
    if first["type"] == "extra_forbidden":
        known = ", ".join(VisionOptions.model_fields)
        raise InvalidRequest(f"unknown field {name!r}; known fields: {known}", f"vision.{name}")
    raise InvalidRequest(first["msg"].replace("Input should", f"{name} must"), f"vision.{name}")
