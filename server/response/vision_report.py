"""What the model was shown of each image and video, for ``vision.report`` and for plans. Pure."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from saccade.media.planning.plan import ImagePlan, VideoPlan
from saccade.server.request.vision import SeenMedium

Size = Annotated[tuple[int, int], Field(description="width, height in pixels")]


class ImageReport(BaseModel):
    """What the model was shown of one image."""

    path: str = Field(description="its part in the request", examples=["messages[0].content[1]"])
    kind: Literal["image"] = "image"
    source_size: Size = Field(description="width, height in pixels, as sent")
    upright_size: Size = Field(
        description="width, height in pixels, turned as its EXIF orientation or display matrix says"
    )
    resized_size: Size = Field(description="width, height in pixels, as the model was shown it")
    scale: tuple[float, float] = Field(
        description="x, y: upright pixels times this are pixels as the model was shown them"
    )
    grid: tuple[int, int, int] = Field(description="t, h, w: patches")
    tokens: int = Field(description="prompt tokens that it takes")


class VideoReport(ImageReport):
    """What the model was shown of one video. Sizes are those of a frame."""

    # Reports are written once and read by kind: it may narrow the base's.
    kind: Literal["video"] = "video"  # type: ignore[assignment]
    source_fps: float = Field(description="frames a second of the video, on average")
    source_frames: int = Field(description="frames of the video")
    source_duration: float = Field(description="seconds")
    frame_indices: list[int] = Field(description="frames of the video that were sampled, from 0")
    frame_times: list[float] = Field(description="seconds in the video at which they are shown")
    sampled_fps: float = Field(description="frames a second after sampling")
    seconds_per_grid: float = Field(description="between two steps of the grid's t, on average")
    time_deviation: float = Field(
        description="seconds between a sampled frame and where an even rate puts it, at most"
    )
    uneven: bool = Field(description="whether that is more than half a frame of the video")
    sampling: Literal["frames", "time"] = Field(description="how frames were chosen")
    pixel_aspect_ratio: float = Field(description="width to height of a pixel of the video")
    damaged_frames: int = Field(
        description="frames that could not be decoded, of those that had to be"
    )


MediumReport = ImageReport | VideoReport


class Detection(BaseModel):
    """A box or a point that an answer names."""

    choice: int = Field(description="of the answer that names it")
    label: str | None
    bbox_2d: tuple[float, float, float, float] | None = Field(
        default=None, description="x1, y1, x2, y2: pixels of the image as sent, upright"
    )
    point_2d: tuple[float, float] | None = Field(default=None, description="x, y, likewise")
    image: int | None = Field(
        description="the medium it lies in, from 0 in the order of the prompt; null: one of "
        "several of the same scale"
    )


class VisionReport(BaseModel):
    """The answer's ``vision``: what was asked for."""

    media: list[MediumReport] = Field(default=[], description="in the order of the prompt")
    detections: list[Detection] = Field(default=[], description="with `coordinates: source`")
    warnings: list[str] = Field(default=[], description="why numbers stayed as they were")


def report_media(seen: Iterable[SeenMedium]) -> list[MediumReport]:
    """The reports of a request's media, in the order of the prompt."""
    return [report_medium(one.path, one.plan, one.sideways) for one in seen]


def report_medium(path: str, plan: ImagePlan | VideoPlan, sideways: bool) -> MediumReport:
    """The report of one medium.

    Args:
        path: its part in the request.
        sideways: it is stored turned by a quarter.
    """
    upright = plan.source_width, plan.source_height
    common: dict[str, Any] = {
        "path": path,
        "source_size": upright[::-1] if sideways else upright,
        "upright_size": upright,
        "resized_size": (plan.width, plan.height),
        "scale": (plan.width / plan.source_width, plan.height / plan.source_height),
        "grid": plan.grid,
        "tokens": plan.tokens,
    }
    if isinstance(plan, ImagePlan):
        return ImageReport(**common)
    own = VideoReport.model_fields.keys() - ImageReport.model_fields.keys()
    return VideoReport(**common, **{name: getattr(plan, name) for name in own})


# A response that was cut off ends with the first in vLLM 0.32, with the second from 0.33 on.
_RESPONSE_ENDS = ('"type":"response.completed"', '"type":"response.incomplete"')


class VisionReportEdit:
    """Puts the report into an answer: ``vision.media``.

    In a stream it stands in the first chunk; of a response in its first event, which is
    ``response.created``, and in its last, ``response.completed`` or ``response.incomplete``.
    """

    def __init__(self, seen: Iterable[SeenMedium]) -> None:
        self._media = [medium.model_dump(mode="json") for medium in report_media(seen)]
        self._begun = False

    def applies_to(self, event: str) -> bool:
        return not self._begun or any(end in event for end in _RESPONSE_ENDS)

    def edit(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        self._begun = True
        data.get("response", data).setdefault("vision", {})["media"] = self._media
        return [data]
