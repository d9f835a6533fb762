"""Limits on images and videos: of the source, before decoding, and of the plan."""

from dataclasses import dataclass, field

from saccade.media.errors import LimitError
from saccade.media.planning.plan import ImagePlan, PixelLimits, VideoPlan

# PIL refuses more than this on its own (twice its warning threshold), so a higher cap has no use.
MAX_IMAGE_PIXELS = 178_956_970


@dataclass(frozen=True)
class ImageLimits:
    """Bounds on one image file."""

    max_pixels: int = MAX_IMAGE_PIXELS
    # Usual are 10 scans in a progressive JPEG; each costs a pass over the whole image.
    max_jpeg_scans: int = 100
    # 256 MiB in the 8 KiB pieces that libpng writes are half as many.
    max_png_chunks: int = 65_536
    # PIL takes four for a chunk of a PNG or a comment of a JPEG, three for one of a GIF; about a
    # microsecond each, whatever they hold, while no other Python runs.
    max_reads: int = 400_000


@dataclass(frozen=True)
class MediaLimits:
    """Bounds on one medium. They protect memory and time; what the model can hold is less.

    Source limits hold before anything is decoded. Planned limits keep a caller's ``min_pixels``,
    ``max_pixels`` or ``max_frames`` from asking for more than the server means to compute.
    """

    image: ImageLimits = field(default_factory=ImageLimits)
    max_frame_pixels: int = 8192 * 4320
    max_video_seconds: float = 7200.0
    max_source_frames: int = 1_000_000
    max_listed_frames: int = 768
    max_planned_pixels: int | None = None  # of an image or frame; None: the checkpoint's maximum
    max_planned_frames: int = 2048
    max_video_tokens: int = 131_072
    max_decoding_bytes: int = 2 * 2**30  # of pixels that all decoders hold together
    max_decoding_seconds: float = 300.0  # of one video, from the first frame to the last

    def check(self, plan: ImagePlan | VideoPlan, pixel_limits: PixelLimits) -> None:
        """Raises LimitError when the plan asks for too many pixels, frames or tokens."""
        limit = self.max_planned_pixels or pixel_limits.max_pixels
        if plan.width * plan.height > limit:
            raise LimitError(
                f"the controls ask for {plan.width} x {plan.height} pixels; "
                f"the limit is {limit} pixels"
            )
        if isinstance(plan, ImagePlan):
            return
        frames = len(plan.frame_indices)
        if frames > self.max_planned_frames:
            raise LimitError(f"{frames} frames; the limit is {self.max_planned_frames}")
        if plan.tokens > self.max_video_tokens:
            raise LimitError(
                f"the video would take {plan.tokens} tokens; the limit is {self.max_video_tokens}"
            )
