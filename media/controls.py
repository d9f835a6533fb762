"""Parses and validates the vision controls of one image or video: no field is silently ignored.

The fields and their meaning are those of qwen-vl-utils 0.0.14; :mod:`saccade.media.planning.plan`
applies them. A field that the other fields would make meaningless is refused here rather than
dropped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from saccade.media.errors import ControlError

# What `detail: low` grants: OpenAI's 512 x 512 pixels, at most 334 tokens of Qwen2.5-VL.
LOW_DETAIL_PIXELS = 512 * 512


@dataclass(frozen=True)
class ImageControls:
    """Requested for one image; ``None`` means the default. All in pixels.

    ``draft`` allows a decoder to shrink the image on its way, to no less than the planned size:
    a fraction of the work for pixels that differ a little from the reference's.
    """

    min_pixels: int | None = None
    max_pixels: int | None = None
    resized_width: int | None = None
    resized_height: int | None = None
    draft: bool = False


@dataclass(frozen=True)
class VideoControls:
    """Requested for one video; ``None`` means the default.

    Pixel fields are per frame except ``total_pixels`` (whole video). ``fps``, ``sample_fps`` and
    ``raw_fps`` are frames a second, ``video_start`` and ``video_end`` seconds of the source.
    ``sample_fps`` and ``raw_fps`` describe a list of frames, the other rates a video file.
    """

    min_pixels: int | None = None
    max_pixels: int | None = None
    resized_width: int | None = None
    resized_height: int | None = None
    fps: float | None = None
    nframes: int | None = None
    min_frames: int | None = None
    max_frames: int | None = None
    video_start: float | None = None
    video_end: float | None = None
    total_pixels: int | None = None
    sample_fps: float | None = None
    raw_fps: float | None = None


# The upper bounds only keep the arithmetic away from overflow; the server's limits are far below.
_Side = Annotated[int, Field(ge=1, le=2**24)]
_Pixels = Annotated[int, Field(ge=1, le=2**48)]
_Frames = Annotated[int, Field(ge=2, le=2**31)]
_MinFrames = Annotated[int, Field(ge=1, le=2**31)]
_Rate = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
_Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class ImageFields(BaseModel):
    """The controls of an image as they come in a request."""

    model_config = ConfigDict(strict=True, extra="forbid")

    min_pixels: _Pixels | None = Field(
        default=None, description="least area after resizing, of a video's frame too"
    )
    max_pixels: _Pixels | None = Field(
        default=None, description="largest area after resizing, of a video's frame too"
    )
    resized_width: _Side | None = Field(
        default=None, description="width to resize to, rounded to a multiple of 28; with height"
    )
    resized_height: _Side | None = Field(
        default=None, description="height to resize to, rounded to a multiple of 28; with width"
    )


class VideoFields(ImageFields):
    """The controls of a video as they come in a request."""

    fps: _Rate | None = Field(
        default=None, description="frames a second to sample (default: 2); not with nframes"
    )
    nframes: _Frames | None = Field(default=None, description="frames to sample; not with fps")
    min_frames: _MinFrames | None = Field(
        default=None, description="frames to sample at least (default: 4)"
    )
    max_frames: _Frames | None = Field(
        default=None, description="frames to sample at most (default: 768)"
    )
    video_start: _Seconds | None = Field(default=None, description="second at which to begin")
    video_end: _Seconds | None = Field(default=None, description="second at which to end")
    total_pixels: _Pixels | None = Field(
        default=None, description="area of all sampled frames together, two of them counted as one"
    )
    sample_fps: _Rate | None = Field(
        default=None, description="frames a second of a list of frames (default: 2)"
    )
    raw_fps: _Rate | None = Field(
        default=None, description="frames a second of the video that a list of frames comes from"
    )


def parse_image_controls(fields: Mapping[str, object], path: str) -> ImageControls:
    """Checks the controls of one image part.

    Args:
        fields: the part's fields without its type and URL, as they came from JSON. ``None`` means
            not given. Numbers must be JSON numbers: no strings, no booleans, no NaN.
        path: where the part is in the request, e.g. ``messages[0].content[1]``.

    Raises:
        ControlError: unknown field, value out of range, or contradiction; names the field's path.
    """
    controls = ImageControls(**_validated(ImageFields, fields, path))
    _check_sizes(controls, path)
    return controls


def parse_video_controls(fields: Mapping[str, object], path: str) -> VideoControls:
    """Checks the controls of one video part. Arguments and errors as parse_image_controls."""
    controls = VideoControls(**_validated(VideoFields, fields, path))
    _check_sizes(controls, path)
    if controls.nframes is not None:
        for name in ("fps", "min_frames", "max_frames"):
            if getattr(controls, name) is not None:
                raise ControlError(f"nframes and {name} exclude each other", f"{path}.{name}")
    if (
        controls.min_frames is not None
        and controls.max_frames is not None
        and controls.min_frames > controls.max_frames
    ):
        raise ControlError("min_frames is greater than max_frames", f"{path}.min_frames")
    if controls.video_end is not None and (controls.video_start or 0.0) >= controls.video_end:
        name = "video_end" if controls.video_start is None else "video_start"
        raise ControlError("video_start must be before video_end", f"{path}.{name}")
    return controls


def apply_detail(controls: ImageControls, detail: object, path: str) -> ImageControls:
    """Maps OpenAI's ``detail`` of an image to a pixel budget.

    ``low`` sets ``max_pixels`` to 262,144 (512 x 512, at most 334 tokens) and allows a draft;
    ``high``, ``auto`` and ``None`` change nothing: the defaults already keep full detail. A size
    the caller gave in pixels (``max_pixels``, ``resized_width``/``resized_height``, or a
    ``min_pixels`` above the low budget) is the more exact wish and wins over ``low``.

    Raises:
        ControlError: any other value; names ``{path}.detail``.
    """
    if detail is None or detail in ("auto", "high"):
        return controls
    if detail != "low":
        raise ControlError('detail must be "auto", "low" or "high"', f"{path}.detail")
    if (
        controls.max_pixels is not None
        or controls.resized_width is not None
        or (controls.min_pixels or 0) > LOW_DETAIL_PIXELS
    ):
        return controls
    return replace(controls, max_pixels=LOW_DETAIL_PIXELS, draft=True)


def _validated(model: type[ImageFields], fields: Mapping[str, object], path: str) -> dict[str, Any]:
    try:
        return model.model_validate(dict(fields)).model_dump()
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    name = str(first["loc"][0])[:64]
    if first["type"] == "extra_forbidden":
        known = ", ".join(model.model_fields)
        raise ControlError(f"unknown field {name!r}; known fields: {known}", f"{path}.{name}")
    raise ControlError(first["msg"].replace("Input should", f"{name} must"), f"{path}.{name}")


def _check_sizes(controls: ImageControls | VideoControls, path: str) -> None:
    if (controls.resized_width is None) != (controls.resized_height is None):
        name = "resized_height" if controls.resized_width is None else "resized_width"
        raise ControlError(
            "resized_width and resized_height must be given together", f"{path}.{name}"
        )
    if controls.resized_width is not None:
        for name in ("min_pixels", "max_pixels", "total_pixels"):
            if getattr(controls, name, None) is not None:
                raise ControlError(
                    f"{name} has no effect beside resized_width and resized_height",
                    f"{path}.{name}",
                )
    if (
        controls.min_pixels is not None
        and controls.max_pixels is not None
        and controls.min_pixels > controls.max_pixels
    ):
        raise ControlError("min_pixels is greater than max_pixels", f"{path}.min_pixels")
