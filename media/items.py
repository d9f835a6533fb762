"""A medium on its way to the model: prepared, which tells its price, then planned."""

from dataclasses import dataclass

from saccade.media.controls import VideoControls
from saccade.media.planning.plan import ImagePlan, VideoPlan, VideoSource
from saccade.media.types import ImageHeader, Pixels


@dataclass(frozen=True)
class PlannedImage:
    """One image as the model takes it."""

    pixels: Pixels  # [height, width, 3]
    plan: ImagePlan
    digest: str  # hex; equal digests mean equal pixels and plan
    sideways: bool = False  # stored turned by a quarter; the plan's source size is upright


@dataclass(frozen=True)
class PlannedVideo:
    """One clip as the model takes it."""

    frames: Pixels  # [frames, height, width, 3], frames a multiple of temporal_patch_size
    plan: VideoPlan
    digest: str
    sideways: bool = False


@dataclass(frozen=True)
class PreparedImage:
    """A fetched and planned image, not yet decoded."""

    data: bytes
    header: ImageHeader
    plan: ImagePlan
    draft: bool  # may be shrunk while it is decoded
    digest: str
    param: str | None

    @property
    def decoding_bytes(self) -> int:
        """Held while it is decoded, the planned pixels aside."""
        return self.header.decoding_bytes

    @property
    def sideways(self) -> bool:
        """Stored turned by a quarter; the plan's source size is upright."""
        return self.header.sideways


@dataclass(frozen=True)
class PreparedVideo:
    """A fetched and planned clip, not yet decoded: one file, or the frames of a list."""

    data: tuple[bytes, ...]
    source: VideoSource | None  # None: a list of frames
    controls: VideoControls
    plan: VideoPlan
    decoding_bytes: int  # held while it is decoded, the planned frames aside
    digest: str
    param: str | None
    sideways: bool
    headers: tuple[ImageHeader, ...] = ()  # of the frames of a list
