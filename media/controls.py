"""Parses and validates the vision controls of one image or video: no field is silently ignored.

The fields and their meaning are those of qwen-vl-utils 0.0.14; :mod:`saccade.media.planning.plan`
applies them. A field that the other fields would make meaningless is refused here rather than
dropped.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from saccade.media.errors import ControlError

# What `detail: low` grants: OpenAI's 512 x 512 pixels, at most 334 tokens of Qwen2.5-VL.
LOW_DETAIL_PIXELS = 512 * 512
_MOST_PIXELS = 2**48  # keeps the arithmetic away from overflow; the server's limits are far below


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
    ``sampling`` is by the frames' numbers, as in qwen-vl-utils, unless it is by time.
    ``square_pixels`` keeps proportions where the pixels of a video file are not square.
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
    sampling: Literal["frames", "time"] | None = None
    square_pixels: bool | None = None


# The upper bounds are as harmless.
_Side = Annotated[int, Field(ge=1, le=2**24)]
_Pixels = Annotated[int, Field(ge=1, le=_MOST_PIXELS)]
_Frames = Annotated[int, Field(ge=2, le=2**31)]
_MinFrames = Annotated[int, Field(ge=1, le=2**31)]
_Rate = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
_Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class _SizeFields(BaseModel):
    """The controls of an image or of a video's frames as they come in a request."""

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


class ImageFields(_SizeFields):
    """The controls of an image as they come in a request."""

    detail: Literal["auto", "low", "high", "original"] | None = Field(
        default=None,
        description="`low`: at most 512 x 512 pixels; `original`: never made smaller; the others "
        "keep full detail",
    )


class VideoFields(_SizeFields):
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
    sampling: Literal["frames", "time"] | None = Field(
        default=None,
        description="`time`: what is shown at even times; `frames` (default): every so many frames",
    )
    square_pixels: bool | None = Field(
        default=None, description="keep the proportions of a video whose pixels are not square"
    )


Controls = TypeVar("Controls", ImageControls, VideoControls)

_FIELDS: dict[type, type[_SizeFields]] = {ImageControls: ImageFields, VideoControls: VideoFields}
# (fields, fields that exclude any of these, what is said of the latter)
_EXCLUSIVE = (
    (("nframes",), ("fps", "min_frames", "max_frames"), "nframes and {} exclude each other"),
    (
        ("resized_width", "resized_height"),
        ("min_pixels", "max_pixels", "total_pixels", "square_pixels"),
        "{} has no effect beside resized_width and resized_height",
    ),
)
_TOGETHER = ("resized_width", "resized_height")
_ORDERED = (("min_pixels", "max_pixels"), ("min_frames", "max_frames"))
RATES: tuple[str, ...] = ("fps", "nframes", "min_frames", "max_frames")
# A default of the request -> controls of a part beside which it counts for nothing.
_SILENCED_BY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("min_pixels", "max_pixels", "total_pixels"), ("resized_width",)),
    **dict.fromkeys(RATES, RATES),
}


def parse_controls(
    kind: type[Controls],
    fields: Mapping[str, object],
    path: str,
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> Controls:
    """Checks the controls of one part.

    ``detail: low`` of an image sets ``max_pixels`` to 262,144 (512 x 512, at most 334 tokens) and
    allows a draft; ``original`` sets it to no bound at all. The other details change nothing: the
    defaults already keep full detail. A size the caller gave in pixels (``max_pixels``,
    ``resized_width``/``resized_height``, or a ``min_pixels`` above the low budget) is the more
    exact wish and wins over ``detail``.

    Args:
        kind: whose controls these are.
        fields: the part's fields without its type and URL, as they came from JSON. ``None`` means
            not given. Numbers must be JSON numbers: no strings, no booleans, no NaN.
        path: where the part is in the request, e.g. ``messages[0].content[1]``.
        defaults: valid controls of the whole request. The part's own exclude those that mean the
            same, or that would contradict them.

    Raises:
        ControlError: unknown field, value out of range, or contradiction; names the field's path.
    """
    given = validate_fields(_FIELDS[kind], fields, path, ControlError)
    if len(alone := given.keys() & _TOGETHER) == 1:
        message = f"{' and '.join(_TOGETHER)} must be given together"
        raise ControlError(message, f"{path}.{alone.pop()}")
    for holders, others, message in _EXCLUSIVE:
        for name in others:
            if name in given and not given.keys().isdisjoint(holders):
                raise ControlError(message.format(name), f"{path}.{name}")
    for least, most in _ORDERED:
        if least in given and most in given and given[least] > given[most]:
            raise ControlError(f"{least} is greater than {most}", f"{path}.{least}")
    if "video_end" in given and given.get("video_start", 0.0) >= given["video_end"]:
        name = "video_start" if "video_start" in given else "video_end"
        raise ControlError("video_start must be before video_end", f"{path}.{name}")
    detail = given.pop("detail", None)
    if given.keys().isdisjoint(("max_pixels", "resized_width")):
        if detail == "low" and given.get("min_pixels", 0) <= LOW_DETAIL_PIXELS:
            given.update(max_pixels=LOW_DETAIL_PIXELS, draft=True)
        elif detail == "original":
            given["max_pixels"] = _MOST_PIXELS
    own = set(given)
    for default, value in defaults.items():
        if default not in own and own.isdisjoint(_SILENCED_BY.get(default, ())):
            given[default] = value
    for low, high in _ORDERED:
        if low in given and high in given and given[low] > given[high]:
            del given[high if low in own else low]
    return kind(**given)


def validate_fields(
    model: type[BaseModel], fields: object, path: str, error: Callable[[str, str], Exception]
) -> dict[str, Any]:
    """What is given of a strict model's fields.

    Raises:
        error: made of a message and the path of the field that is unknown or has a wrong value.
    """
    try:
        return model.model_validate(fields).model_dump(exclude_none=True)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_context=False, include_input=False)[0]
    name = str(first["loc"][0])[:64]
    message = first["msg"].replace("Input should", f"{name} must")
    if first["type"] == "extra_forbidden":
        message = f"unknown field {name!r}; known fields: {', '.join(model.model_fields)}"
    raise error(message, f"{path}.{name}")
