"""Controls that a request gives once for all its images or videos. Pure.

They stand at the top level, as in DashScope's API, or in vLLM's ``media_io_kwargs`` and
``mm_processor_kwargs``, of which nothing else is taken.
"""

from dataclasses import dataclass, field
from typing import Any

from saccade.media.controls import ImageControls, VideoControls, parse_controls
from saccade.media.errors import ControlError
from saccade.media.planning.plan import PixelLimits
from saccade.server.core.errors import InvalidRequest
from saccade.server.request.fields import MEDIA_DEFAULTS

DEFAULT_NAMES = frozenset(
    (
        *MEDIA_DEFAULTS.split(),
        "mm_processor_kwargs",
        "media_io_kwargs",
        "vl_high_resolution_images",
    )
)
"""Fields that `take_media_defaults` takes."""

PROCESSOR_KWARGS = ("min_pixels", "max_pixels", "fps")
VIDEO_KWARGS = ("fps", "num_frames")
"""What is taken of ``mm_processor_kwargs``, and of ``media_io_kwargs.video``."""

_MOST_FRAMES = 2**31  # all there are, which vLLM calls -1
_IMAGE_FIELDS = ImageControls.__dataclass_fields__


@dataclass(frozen=True)
class MediaDefaults:
    """By name; those of a part come first."""

    image: dict[str, Any] = field(default_factory=dict)
    video: dict[str, Any] = field(default_factory=dict)


def take_media_defaults(body: dict[str, Any]) -> MediaDefaults:
    """The controls, which are no longer in ``body``.

    Raises:
        ControlError: a wrong value, or one that is given twice; names its path.
        InvalidRequest: anything else in vLLM's two fields.
    """
    given: dict[str, Any] = {}
    paths: dict[str, str] = {}

    def give(name: str, value: Any, path: str) -> None:
        if name in given:
            raise ControlError(f"{path} and {paths[name]} exclude each other", path)
        given[name], paths[name] = value, path

    for name in MEDIA_DEFAULTS.split():
        if name in body:
            give(name, body.pop(name), name)
    processing = _take(body, "mm_processor_kwargs", PROCESSOR_KWARGS)
    for name, value in processing.items():
        rate = value[0] if isinstance(value, list) and len(value) == 1 else value
        give(name, rate, f"mm_processor_kwargs.{name}")
    loading = _take(body, "media_io_kwargs", ("video",))
    of_video = _take(loading, "video", VIDEO_KWARGS, "media_io_kwargs.")
    if (rate := of_video.get("fps")) is not None:
        give("fps", rate, "media_io_kwargs.video.fps")
    if (frames := of_video.get("num_frames")) is not None:
        frames = _MOST_FRAMES if frames == -1 else frames
        # As many as that, or all that there are.
        for name in ("max_frames",) if "fps" in given else ("max_frames", "min_frames"):
            give(name, frames, "media_io_kwargs.video.num_frames")
    try:
        parse_controls(VideoControls, given, "")
    except ControlError as error:
        name = (error.param or "").removeprefix(".")
        path = paths.get(name, name)
        message = error.message.replace(name, path.rpartition(".")[2], 1)
        raise ControlError(message, path) from None
    image = {name: value for name, value in given.items() if name in _IMAGE_FIELDS}
    full = body.pop("vl_high_resolution_images", False)
    if not isinstance(full, bool):
        raise InvalidRequest("it must be true or false", "vl_high_resolution_images")
    if full:  # DashScope's most, which is the checkpoints' default too
        image.setdefault("max_pixels", PixelLimits().max_pixels)
    return MediaDefaults(image, given)


def _take(
    holder: dict[str, Any], name: str, known: tuple[str, ...], place: str = ""
) -> dict[str, Any]:
    path, value = place + name, holder.pop(name, None)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"{path} must be an object", path)
    for key, one in value.items():
        if key not in known and one not in (None, {}):
            message = f"{path} takes {', '.join(known)}; other controls stand beside their medium"
            raise InvalidRequest(message, f"{path}.{key[:64]}")
    return dict(value)
