"""What the worker threads do with one medium: plan from its header, decode, resize, name by digest.

Synchronous; `loader` says when, and on which thread.
"""

import math
from threading import Event

import numpy as np
from blake3 import blake3
from PIL import Image

from saccade.media.controls import ImageControls, VideoControls
from saccade.media.decode.image import decode_image, read_header
from saccade.media.decode.jpeg import decode_resized_jpeg
from saccade.media.decode.resize import resize
from saccade.media.decode.video import load_video, probe_video
from saccade.media.items import PlannedImage, PlannedVideo, PreparedImage, PreparedVideo
from saccade.media.limits import MediaLimits
from saccade.media.memory.raster_pool import Rasters
from saccade.media.memory.thread_buffer import Scratch
from saccade.media.planning.plan import (
    ImagePlan,
    PixelLimits,
    VideoPlan,
    VideoSource,
    VisionGeometry,
    listed_frame_size,
    plan_frame_list,
    plan_image,
    plan_video,
)
from saccade.media.timing import Observer, timed
from saccade.media.types import Pixels

CHANNELS = 3  # bytes a pixel
MOST_DECODER_THREADS = 4  # of one clip: each of them holds a frame
_FRAMES_HELD = 4  # by a video decoder for reference, about, beside one for each of its threads
_PREPARING = 24  # bytes a pixel, of the frame that is made upright RGB; so much where it has alpha
_RESIZING = 11  # bytes a pixel, of a listed frame between its two resizes: PIL takes 4, twice


class MediaWork:
    """The work itself, for one checkpoint under one set of limits.

    Args:
        geometry, limits: of the served checkpoint.
        media_limits: how large media may be.
        workers: threads that decode.
        cores: that a clip's decoder may use.
        observe: told how long each stage of each medium took.

    Every method may raise any :class:`saccade.media.errors.MediaError`.
    """

    def __init__(
        self,
        geometry: VisionGeometry,
        limits: PixelLimits,
        media_limits: MediaLimits,
        workers: int,
        cores: int,
        observe: Observer,
    ) -> None:
        self._geometry = geometry
        self._limits = limits
        self._media_limits = media_limits
        self._workers = workers
        self._cores = cores
        self._observe = observe
        self._scratch = Scratch()
        self._rasters = Rasters()

    def prepare_image(
        self, data: bytes, controls: ImageControls, param: str | None
    ) -> PreparedImage:
        """Plans an image from its header."""
        with timed(self._observe, "plan"):
            header = read_header(data, self._media_limits.image)
            plan = plan_image(header.width, header.height, controls, self._geometry, self._limits)
            self._media_limits.check_image(plan, self._limits)
            digest = self._digest((data,), controls, plan)
        return PreparedImage(data, header, plan, controls.draft, digest, param)

    def decode_image(self, prepared: PreparedImage) -> PlannedImage:
        """Decodes and resizes a prepared image.

        Most JPEGs are resized while they are decoded, and all of it is that stage's.
        """
        plan, draft = prepared.plan, prepared.draft
        size = plan.height, plan.width
        raster = self._rasters.of(*size)
        with timed(self._observe, "decode"):
            if not draft and decode_resized_jpeg(prepared.data, prepared.header, raster):
                pixels = raster
            else:
                pixels = decode_image(
                    prepared.data,
                    self._media_limits.image,
                    size if draft else None,
                    self._buffer(prepared, raster),
                    prepared.header,
                )
        with timed(self._observe, "resize"):
            pixels = resize(pixels, *size, out=raster)
        return PlannedImage(pixels, plan, prepared.digest, prepared.sideways)

    def _buffer(self, prepared: PreparedImage, raster: Pixels) -> Pixels | None:
        """Where an image may be decoded to: memory that a resize is done with, or the result's."""
        plan = prepared.plan
        source_size = plan.source_height, plan.source_width
        if prepared.draft:
            return None
        if source_size == (plan.height, plan.width):
            return raster.reshape(-1)
        return self._scratch.of(CHANNELS * math.prod(source_size))

    def _plan_video(self, source: VideoSource, controls: VideoControls) -> VideoPlan:
        plan = plan_video(source, controls, self._geometry)
        self._media_limits.check_video(plan, self._limits)
        return plan

    def prepare_video(
        self, data: bytes, controls: VideoControls, param: str | None
    ) -> PreparedVideo:
        """Plans a clip: frames are counted, only the first is decoded."""
        with timed(self._observe, "plan"):
            source = probe_video(data, self._media_limits)
            plan = self._plan_video(source, controls)
            digest = self._digest((data,), controls, plan)
        threads = min(self._cores, MOST_DECODER_THREADS)
        held = CHANNELS * (threads + _FRAMES_HELD) + _PREPARING
        cost = source.width * source.height * held
        sideways = source.sideways
        return PreparedVideo((data,), source, controls, plan, cost, digest, param, sideways)

    def decode_video(self, prepared: PreparedVideo, threads: int, cancelled: Event) -> PlannedVideo:
        """Decodes and resizes the frames of a clip that its plan names."""
        with timed(self._observe, "decode"):
            frames, plan = load_video(
                prepared.data[0],
                lambda source: self._plan_video(source, prepared.controls),
                self._media_limits,
                prepared.source,
                cancelled,
                threads,
            )
        digest = prepared.digest
        if plan != prepared.plan:
            digest = self._digest(prepared.data, prepared.controls, plan)
        return PlannedVideo(frames, plan, digest, prepared.sideways)

    def prepare_frames(
        self, listed: tuple[bytes, ...], controls: VideoControls, param: str | None
    ) -> PreparedVideo:
        """Plans a clip that is a list of images."""
        with timed(self._observe, "plan"):
            headers = tuple(read_header(data, self._media_limits.image) for data in listed)
            sizes = [(header.width, header.height) for header in headers]
            plan = plan_frame_list(sizes, controls, self._geometry)
            self._media_limits.check_video(plan, self._limits)
            digest = self._digest(listed, controls, plan)
        # Frames of different sizes may share a plan; as many decode at once as there are threads.
        width, height = listed_frame_size(*sizes[0], controls, self._geometry)
        costs = sorted(header.decoding_bytes + _RESIZING * width * height for header in headers)
        cost = sum(costs[-self._workers :])
        sideways = headers[0].sideways
        return PreparedVideo(listed, None, controls, plan, cost, digest, param, sideways, headers)

    def fill_frame(self, prepared: PreparedVideo, frames: Pixels, index: int) -> None:
        """Decodes and resizes one image of such a list into ``frames``."""
        with timed(self._observe, "decode"):
            pixels = decode_image(
                prepared.data[index],
                self._media_limits.image,
                header=prepared.headers[index],
            )
        # The reference resizes listed frames twice, first with PIL, and so do we: one resize would
        # give sharper pixels than callers of the reference get.
        height, width = listed_frame_size(
            pixels.shape[1], pixels.shape[0], prepared.controls, self._geometry
        )
        with timed(self._observe, "resize"):
            smaller = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
            frames[index] = resize(np.array(smaller), prepared.plan.height, prepared.plan.width)

    def _digest(
        self,
        encoded: tuple[bytes, ...],
        controls: ImageControls | VideoControls,
        plan: ImagePlan | VideoPlan,
    ) -> str:
        hasher = blake3()
        # Frozen dataclasses of numbers: their repr names the type, every field and every value.
        settings = repr((controls, self._geometry, self._limits, plan)).encode()
        for part in (settings, *encoded):
            hasher.update(len(part).to_bytes(8, "little"))
            hasher.update(part)
        return hasher.hexdigest()
