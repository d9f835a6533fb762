"""Plans, decodes, resizes and hashes one image or video, on the thread that calls.

`loader` decides when, and on which thread.
"""

import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from threading import Event, Lock

import numpy as np
from blake3 import blake3
from cachetools import LRUCache
from PIL import Image

from saccade.media.controls import ImageControls, VideoControls
from saccade.media.decode.container import DecodeDeadline
from saccade.media.decode.image import decode_image, read_header
from saccade.media.decode.probe import probe_video
from saccade.media.decode.resize import decode_resized_jpeg, decode_resized_png, resize
from saccade.media.decode.video import decode_video
from saccade.media.fetch.uploaded import UploadedFile, whole
from saccade.media.items import DecodedImage, DecodedVideo, PlannedImage, PlannedVideo
from saccade.media.limits import MediaLimits
from saccade.media.memory.raster_pool import RasterPool
from saccade.media.memory.thread_buffer import ThreadBuffer
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
from saccade.media.timing import timed
from saccade.media.types import CHANNELS, Pixels

MAX_DECODER_THREADS = 4  # of one video: each of them holds a frame
_REFERENCE_FRAMES = 4  # that a video decoder holds, about, beside one for each of its threads
_CONVERSION_BYTES = 24  # a pixel of the frame that is made upright RGB; so much where it has alpha
_LISTED_RESIZE_BYTES = 11  # a pixel of a listed frame between its two resizes: PIL takes 4, twice
_SOURCES_BYTES = 64 << 20  # of what videos turned out to be, for when they are asked about again


class MediaWorker:
    """Plans and decodes media of one checkpoint under one set of limits.

    Args:
        geometry, limits: of the served checkpoint.
        media_limits: how large media may be.
        workers: threads that decode.
        cores: that a video's decoder may use.

    Every method may raise any :class:`saccade.media.errors.MediaError`.
    """

    def __init__(
        self,
        geometry: VisionGeometry,
        limits: PixelLimits,
        media_limits: MediaLimits,
        workers: int,
        cores: int,
    ) -> None:
        self._geometry = geometry
        self._limits = limits
        self._media_limits = media_limits
        self._workers = workers
        self._cores = cores
        self._buffers = ThreadBuffer()
        self._rasters = RasterPool()
        # By the digest of their file; the ones that were used last.
        self._sources: LRUCache[bytes, VideoSource] = LRUCache(_SOURCES_BYTES, _source_bytes)
        self._sources_lock = Lock()

    def plan_image(self, data: bytes, controls: ImageControls, param: str | None) -> PlannedImage:
        """Plans an image from its header."""
        with timed("plan"):
            header = read_header(data, self._media_limits.image)
            plan = plan_image(header.width, header.height, controls, self._geometry, self._limits)
            self._media_limits.check(plan, self._limits)
            digest = self._digest((blake3(data).digest(),), controls, plan)
        return PlannedImage(data, header, plan, controls.draft, digest, param)

    def decode_image(self, planned: PlannedImage) -> DecodedImage:
        """Decodes and resizes a planned image.

        Most JPEGs and PNGs are resized while they are decoded, and all of it is that stage's.
        """
        data, header, plan = planned.data, planned.header, planned.plan
        limits, size = self._media_limits.image, (plan.height, plan.width)
        raster = self._rasters.take(*size)
        source_size = plan.source_height, plan.source_width
        # The thread's own memory, for an image that has to be resized once it is decoded.
        buffer = partial(self._buffers.get, CHANNELS * math.prod(source_size))
        with timed("decode"):
            if planned.draft:
                pixels: Pixels | None = decode_image(data, limits, size, None, header)
            elif decode_resized_jpeg(data, header, raster):
                pixels = raster
            else:
                pixels = decode_resized_png(data, header, raster, limits, buffer)
            if pixels is None:
                memory = raster.reshape(-1) if source_size == size else buffer()
                pixels = decode_image(data, limits, None, memory, header)
        with timed("resize"):
            pixels = resize(pixels, *size, out=raster)
        return DecodedImage(pixels, plan, planned.digest, planned.sideways)

    def plan_video(
        self, data: bytes | UploadedFile, controls: VideoControls, param: str | None
    ) -> PlannedVideo:
        """Plans a video: frames are counted, only the first is decoded. Once for the same file,
        which is not even read again if it was uploaded."""
        with timed("plan"):
            file = data.digest if isinstance(data, UploadedFile) else blake3(data).digest()
            with self._sources_lock:
                source = self._sources.get(file)
            if source is None:
                data = whole(data)
                source = probe_video(data, self._media_limits)
                with self._sources_lock, suppress(ValueError):  # larger than all
                    self._sources[file] = source
            plan = plan_video(source, controls, self._geometry)
            self._media_limits.check(plan, self._limits)
            digest = self._digest((file,), controls, plan)
        threads = min(self._cores, MAX_DECODER_THREADS)
        held = CHANNELS * (threads + _REFERENCE_FRAMES) + _CONVERSION_BYTES
        cost = source.width * source.height * held
        sideways = source.sideways
        return PlannedVideo((data,), source, controls, plan, cost, digest, param, sideways)

    def decode_video(self, planned: PlannedVideo, threads: int, cancelled: Event) -> DecodedVideo:
        """Decodes and resizes the frames that a video's plan names."""
        assert planned.source is not None
        (data,), source, plan = planned.data, planned.source, planned.plan
        deadline = DecodeDeadline(self._media_limits, cancelled)
        with timed("decode"):
            frames, damaged = decode_video(
                whole(data), source, plan, self._media_limits, deadline, threads
            )
        plan = replace(plan, damaged_frames=plan.damaged_frames + damaged)
        return DecodedVideo(frames, plan, planned.digest, planned.sideways)

    def plan_frames(
        self, listed: tuple[bytes, ...], controls: VideoControls, param: str | None
    ) -> PlannedVideo:
        """Plans a video that is a list of images."""
        with timed("plan"):
            headers = tuple(read_header(data, self._media_limits.image) for data in listed)
            sizes = [(header.width, header.height) for header in headers]
            plan = plan_frame_list(sizes, controls, self._geometry)
            self._media_limits.check(plan, self._limits)
            digest = self._digest((blake3(data).digest() for data in listed), controls, plan)
        # Frames of different sizes may share a plan; as many decode at once as there are threads.
        width, height = listed_frame_size(*sizes[0], controls, self._geometry)
        costs = sorted(
            header.decoding_bytes + _LISTED_RESIZE_BYTES * width * height for header in headers
        )
        cost = sum(costs[-self._workers :])
        sideways = headers[0].sideways
        return PlannedVideo(listed, None, controls, plan, cost, digest, param, sideways, headers)

    def decode_frame(self, planned: PlannedVideo, frames: Pixels, index: int) -> None:
        """Decodes and resizes one image of such a list into ``frames``."""
        with timed("decode"):
            pixels = decode_image(
                whole(planned.data[index]),
                self._media_limits.image,
                header=planned.headers[index],
            )
        # The reference resizes listed frames twice, first with PIL, and so do we: one resize would
        # give sharper pixels than callers of the reference get.
        height, width = listed_frame_size(
            pixels.shape[1], pixels.shape[0], planned.controls, self._geometry
        )
        with timed("resize"):
            smaller = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
            frames[index] = resize(np.array(smaller), planned.plan.height, planned.plan.width)

    def _digest(
        self,
        files: Iterable[bytes],
        controls: ImageControls | VideoControls,
        plan: ImagePlan | VideoPlan,
    ) -> str:
        # Frozen dataclasses of numbers: their repr names the type, every field and every value.
        settings = repr((controls, self._geometry, self._limits, plan)).encode()
        return blake3(b"".join((blake3(settings).digest(), *files))).hexdigest()


def _source_bytes(source: VideoSource) -> int:
    return 1024 + source.packet_bytes + 8 * source.frames  # its times: eight bytes a frame
