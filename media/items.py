"""One image or video on its way to the model: planned (its cost is known), then decoded."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ClassVar

from saccade.media.controls import VideoControls
from saccade.media.fetch.uploaded import UploadedFile
from saccade.media.planning.plan import ImagePlan, VideoPlan, VideoSource
from saccade.media.types import ImageHeader, Pixels


@dataclass(frozen=True)
class PlannedImage:
    """A fetched and planned image, not yet decoded."""

    modality: ClassVar = "image"
    data: bytes
    header: ImageHeader
    plan: ImagePlan
    draft: bool  # may be shrunk while it is decoded
    digest: str  # hex; equal digests mean equal pixels and plan
    param: str | None

    @property
    def decoding_bytes(self) -> int:
        """Held while it is decoded, the decoded pixels aside."""
        return self.header.decoding_bytes

    @property
    def encoded_bytes(self) -> int:
        """Of the file."""
        return len(self.data)

    @property
    def held_bytes(self) -> int:
        """From now until the engine has it: the file and the decoded pixels."""
        return self.encoded_bytes + self.plan.decoded_bytes

    @property
    def sideways(self) -> bool:
        """Stored turned by a quarter; the plan's source size is upright."""
        return self.header.sideways


@dataclass(frozen=True)
class PlannedVideo:
    """A fetched and planned video, not yet decoded: one file, or the frames of a list."""

    modality: ClassVar = "video"
    data: tuple[bytes | UploadedFile, ...]  # uploaded: not read yet
    source: VideoSource | None  # None: a list of frames
    controls: VideoControls
    plan: VideoPlan
    decoding_bytes: int  # held while it is decoded, the decoded frames aside
    digest: str
    param: str | None
    sideways: bool
    headers: tuple[ImageHeader, ...] = ()  # of the frames of a list

    @property
    def encoded_bytes(self) -> int:
        """Of the file, or of all files of a list."""
        return sum(map(len, self.data))

    @property
    def held_bytes(self) -> int:
        """From now until the engine has it: files, what planning found, decoded frames."""
        found = self.source.packet_bytes if self.source is not None else 0
        return self.encoded_bytes + found + self.plan.decoded_bytes


PlannedMedium = PlannedImage | PlannedVideo


@dataclass(frozen=True)
class DecodedImage:
    """One image as the model takes it."""

    modality: ClassVar = "image"
    pixels: Pixels  # [height, width, 3]
    plan: ImagePlan
    digest: str
    sideways: bool = False


@dataclass(frozen=True)
class DecodedVideo:
    """One video as the model takes it."""

    modality: ClassVar = "video"
    frames: Pixels  # [frames, height, width, 3], frames a multiple of temporal_patch_size
    plan: VideoPlan
    digest: str
    sideways: bool = False


DecodedMedium = DecodedImage | DecodedVideo


@dataclass(frozen=True)
class CachedMedium:
    """A medium that the engine has in its cache: it is sent by its digest alone.

    Attributes:
        modality: image or video.
        plan: what it was decoded by.
        decode: decodes it, should the cache have dropped it when it is sent.
    """

    modality: str
    plan: ImagePlan | VideoPlan
    digest: str
    sideways: bool
    decode: Callable[[], Awaitable[DecodedMedium]]


EngineMedium = DecodedImage | DecodedVideo | CachedMedium
