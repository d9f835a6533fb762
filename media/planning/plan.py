"""Plans an image or video: resized size, patch grid, sampled frames, tokens. Pure arithmetic.

The results equal those of qwen-vl-utils 0.0.14 (`vision_process.py`), rounding included, because
the model was trained on them and callers compute with them. Where that library would return an
empty image or fail an assertion, these functions raise by name. Errors carry the bare field in
``param``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from saccade.media.controls import ImageControls, VideoControls
from saccade.media.errors import ControlError, DecodeError
from saccade.media.planning.frame_times import FrameTimes, SampledTimes, frames_at, sampled_times
from saccade.media.planning.resize_rules import (
    IMAGE_MAX_TOKENS,
    IMAGE_MIN_TOKENS,
    resized_size,
)
from saccade.media.planning.sampling import frame_range, sampled_frames, sampled_instants
from saccade.media.types import CHANNELS, Packets

# Defaults of qwen-vl-utils, in merged tokens: one token is factor x factor pixels.
FRAME_MIN_TOKENS = 128
FRAME_MAX_TOKENS = 768
CONTEXT_TOKENS = 128_000  # of the language model; a video may take nine tenths
DEFAULT_SAMPLE_FPS = 2.0


@dataclass(frozen=True)
class VisionGeometry:
    """How the model cuts pixels into tokens (its vision_config)."""

    patch_size: int = 14
    merge_size: int = 2
    temporal_patch_size: int = 2

    @property
    def factor(self) -> int:
        """Pixels along one side of a merged token."""
        return self.patch_size * self.merge_size


@dataclass(frozen=True)
class PixelLimits:
    """Default pixel range of an image: the checkpoint's preprocessor_config.json."""

    min_pixels: int = 3136
    max_pixels: int = 12_845_056


@dataclass(frozen=True)
class ImagePlan:
    """What will be done with one image. Sizes in pixels, source size EXIF-upright."""

    source_width: int
    source_height: int
    width: int
    height: int
    grid: tuple[int, int, int]  # t, h, w in patches
    tokens: int

    @property
    def decoded_bytes(self) -> int:
        """Of the decoded pixels."""
        return CHANNELS * self.width * self.height


@dataclass(frozen=True)
class VideoSource:
    """What a video's container says, after counting: upright size in pixels, frames, frames/s."""

    width: int
    height: int
    frames: int
    fps: float
    times: FrameTimes | None = None  # None: each frame is shown at index / fps
    sideways: bool = False  # stored turned by a quarter
    pixel_aspect_ratio: float = 1.0  # width to height of a pixel, upright
    damaged_frames: int = 0  # before the first that can be decoded; they are not counted
    # All that carry data; None: which packet carries which frame is not known.
    packets: Packets | None = field(default=None, repr=False, compare=False)

    @property
    def packet_bytes(self) -> int:
        """Of the list of packets."""
        return 0 if self.packets is None else self.packets.nbytes


@dataclass(frozen=True)
class VideoPlan:
    """What will be done with one video."""

    source_width: int
    source_height: int
    width: int
    height: int
    grid: tuple[int, int, int]  # t, h, w in patches
    tokens: int
    source_fps: float
    source_frames: int
    frame_indices: tuple[int, ...]  # into the source
    frame_times: tuple[float, ...]  # seconds of the source, 0 for its first frame
    sampled_fps: float
    seconds_per_grid: float  # seconds between two steps of the grid's t axis, on average
    time_deviation: float = 0.0  # seconds between a frame and an even rate's time for it, at most
    frame_sizes: tuple[tuple[int, int], ...] = ()  # of a list's files, upright, where they differ
    source_duration: float = 0.0  # seconds, until the last source frame ends
    pixel_aspect_ratio: float = 1.0  # of the source: width to height of a pixel
    sampling: Literal["frames", "time"] = "frames"
    damaged_frames: int = 0  # of the source, as far as it was decoded

    @property
    def decoded_bytes(self) -> int:
        """Of the decoded frames."""
        return CHANNELS * self.width * self.height * len(self.frame_indices)

    @property
    def uneven(self) -> bool:
        """Whether frames lie more than half a source frame from where the model takes them to."""
        return self.time_deviation > 0.5 / self.source_fps


def plan_image(
    width: int,
    height: int,
    controls: ImageControls,
    geometry: VisionGeometry,
    limits: PixelLimits,
) -> ImagePlan:
    """Plans one image from its upright size (``fetch_image`` of the reference).

    Raises:
        ControlError, DecodeError: as :func:`smart_resize`; ``param`` names the control.
    """
    new_height, new_width = resized_size(
        height,
        width,
        geometry.factor,
        controls.min_pixels or limits.min_pixels,
        controls.max_pixels or limits.max_pixels,
        controls,
    )
    grid = (1, new_height // geometry.patch_size, new_width // geometry.patch_size)
    return ImagePlan(
        source_width=width,
        source_height=height,
        width=new_width,
        height=new_height,
        grid=grid,
        tokens=math.prod(grid) // geometry.merge_size**2,
    )


def plan_video(source: VideoSource, controls: VideoControls, geometry: VisionGeometry) -> VideoPlan:
    """Plans one video file: which frames, and at what size (``fetch_video`` of the reference).

    Which frames is decided by their numbers, as in the reference, also where the frame rate
    varies. The rate that they come at, and with it the seconds per grid, is the true one.

    Raises:
        DecodeError: a video without frames or rate, or too short for one step of the grid.
        ControlError: controls that this video cannot meet, or that only a list of frames has.
    """
    for name in ("sample_fps", "raw_fps"):
        if getattr(controls, name) is not None:
            raise ControlError(f"{name} applies to a list of frames, not to a video file", name)
    if source.frames < 1 or not 0 < source.fps < math.inf:
        raise DecodeError("the video has no frames or no frame rate")
    step = geometry.temporal_patch_size
    duration = source.frames / source.fps if source.times is None else source.times.end
    if controls.sampling == "time":
        instants, sampled_fps = sampled_instants(controls, duration, step)
        indices = frames_at(instants, source.frames, source.fps, source.times)
        sampled = SampledTimes(instants, source.fps, 0.0)
    else:
        first, last = frame_range(controls, source.frames, source.fps, source.times)
        indices = sampled_frames(controls, first, last, source.fps, step)
        sampled = sampled_times(indices, source.fps, source.times)
        sampled_fps = len(indices) / (last - first + 1) * sampled.fps
    source_height, source_width, ratio = source.height, source.width, source.pixel_aspect_ratio
    if controls.square_pixels:  # neither side loses any
        source_width = round(source_width * max(ratio, 1))
        source_height = round(source_height / min(ratio, 1))
    height, width, grid = frame_size(controls, geometry, len(indices), source_height, source_width)
    return VideoPlan(
        source_width=source.width,
        source_height=source.height,
        width=width,
        height=height,
        grid=grid,
        tokens=math.prod(grid) // geometry.merge_size**2,
        source_fps=source.fps,
        source_frames=source.frames,
        frame_indices=indices,
        frame_times=sampled.seconds,
        sampled_fps=sampled_fps,
        seconds_per_grid=step / sampled_fps,
        time_deviation=sampled.deviation,
        source_duration=duration,
        pixel_aspect_ratio=ratio,
        damaged_frames=source.damaged_frames,
        sampling=controls.sampling or "frames",
    )


def frame_size(
    controls: VideoControls, geometry: VisionGeometry, count: int, height: int, width: int
) -> tuple[int, int, tuple[int, int, int]]:
    """(height, width, grid) of ``count`` frames under the per-frame and whole-video budgets.

    Raises:
        ControlError, DecodeError: as :func:`smart_resize`.
    """
    area = geometry.factor * geometry.factor
    min_pixels = controls.min_pixels or FRAME_MIN_TOKENS * area
    # Written out in the reference's order of operations, which decides the last bit.
    default_total = CONTEXT_TOKENS * geometry.factor * geometry.factor * 0.9
    total_pixels = controls.total_pixels or default_total
    share = total_pixels / count * geometry.temporal_patch_size
    ceiling = max(min(FRAME_MAX_TOKENS * area, share), int(min_pixels * 1.05))
    max_pixels = min(controls.max_pixels or ceiling, ceiling)
    height, width = resized_size(height, width, geometry.factor, min_pixels, max_pixels, controls)
    steps, patch = count // geometry.temporal_patch_size, geometry.patch_size
    return height, width, (steps, height // patch, width // patch)


def listed_frame_size(
    width: int, height: int, controls: VideoControls, geometry: VisionGeometry
) -> tuple[int, int]:
    """(height, width) to which the reference first brings each frame of a list.

    It hands its image function the merged-token factor where that expects the patch size, so the
    sides become multiples of 56 and the default area limits are those of 56-pixel tokens. The
    final size is planned from this one, therefore the step cannot be left out.

    Raises:
        ControlError, DecodeError: as :func:`smart_resize`.
    """
    factor = geometry.factor * geometry.merge_size
    return resized_size(
        height,
        width,
        factor,
        controls.min_pixels or IMAGE_MIN_TOKENS * factor * factor,
        controls.max_pixels or IMAGE_MAX_TOKENS * factor * factor,
        controls,
    )


def plan_frame_list(
    sizes: Sequence[tuple[int, int]], controls: VideoControls, geometry: VisionGeometry
) -> VideoPlan:
    """Plans a video given as a list of frames.

    Args:
        sizes: (width, height) of every frame, upright. The list is padded with its last frame to
            a multiple of ``temporal_patch_size``; ``frame_indices`` shows the repetition.

    Raises:
        ControlError: no frames, or controls that only a video file has.
        DecodeError: frames of different shapes.
    """
    for name in (
        *("fps", "nframes", "min_frames", "max_frames", "video_start", "video_end"),
        *("sampling", "square_pixels"),
    ):
        if getattr(controls, name) is not None:
            message = f"{name} applies to a video file, not to a list of frames"
            if name == "fps":
                message += "; sample_fps says how many of them make a second"
            raise ControlError(message, name)
    if not sizes:
        raise ControlError("the list of frames is empty")
    shapes = {listed_frame_size(width, height, controls, geometry) for width, height in sizes}
    if len(shapes) > 1:
        raise DecodeError("the frames of the list have different shapes")
    (shape,) = shapes
    step = geometry.temporal_patch_size
    count = math.ceil(len(sizes) / step) * step
    height, width, grid = frame_size(controls, geometry, count, *shape)
    sampled_fps = controls.sample_fps or DEFAULT_SAMPLE_FPS
    return VideoPlan(
        source_width=sizes[0][0],
        source_height=sizes[0][1],
        width=width,
        height=height,
        grid=grid,
        tokens=math.prod(grid) // geometry.merge_size**2,
        source_fps=controls.raw_fps or sampled_fps,
        source_frames=len(sizes),
        frame_sizes=tuple(sizes) if len(set(sizes)) > 1 else (),
        frame_indices=tuple(min(index, len(sizes) - 1) for index in range(count)),
        frame_times=tuple(index / sampled_fps for index in range(count)),
        sampled_fps=sampled_fps,
        seconds_per_grid=step / sampled_fps,
        source_duration=len(sizes) / (controls.raw_fps or sampled_fps),
    )
