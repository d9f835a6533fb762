"""Plans videos that were decoded elsewhere: frames with the metadata of vLLM's loaders. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from saccade.media.controls import ImageControls, VideoControls
from saccade.media.planning.plan import PixelLimits, VideoPlan, VisionGeometry, plan_image
from saccade.media.planning.sampling import sampled_frames


@dataclass(frozen=True)
class FrameSource:
    """Decoded frames, by what their decoder says: size in pixels, and where they come from.

    Attributes:
        indices: Of the frames in the source.
        source_frames: Frames of the source, ``source_fps`` of them a second.
    """

    width: int
    height: int
    indices: Sequence[int]
    source_frames: int
    source_fps: float


def plan_decoded_frames(
    source: FrameSource,
    sampling: VideoControls | None,
    geometry: VisionGeometry,
    limits: PixelLimits,
) -> tuple[list[int], VideoPlan]:
    """Which of the frames to take, and at what size: each under an image's limits.

    Args:
        sampling: None where all frames are taken.

    Returns:
        Places in ``source.indices``, the last repeated to fill the grid's last step; and the plan.

    Raises:
        ControlError, DecodeError: as `plan_image` and `sampled_frames`.
    """
    count = len(source.indices)
    places = list(range(count))
    if sampling is not None:
        fps = count / source.source_frames * source.source_fps
        places = list(sampled_frames(sampling, 0, count - 1, fps, geometry.temporal_patch_size))
    indices = tuple(int(source.indices[place]) for place in places)
    sampled_fps = len(places) / source.source_frames * source.source_fps
    frame = plan_image(source.width, source.height, ImageControls(), geometry, limits)
    places += places[-1:] * (-len(places) % geometry.temporal_patch_size)
    steps = len(places) // geometry.temporal_patch_size
    return places, VideoPlan(
        source_width=source.width,
        source_height=source.height,
        width=frame.width,
        height=frame.height,
        grid=(steps, *frame.grid[1:]),
        tokens=steps * frame.tokens,
        source_fps=source.source_fps,
        source_frames=source.source_frames,
        frame_indices=indices,
        frame_times=tuple(index / source.source_fps for index in indices),
        sampled_fps=sampled_fps,
        source_duration=source.source_frames / source.source_fps,
        seconds_per_grid=geometry.temporal_patch_size / sampled_fps,
    )
