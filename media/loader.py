"""Fetches media on the event loop; plans, decodes and resizes them on worker threads.

Two steps, so that a server can price a medium between them: ``plan`` fetches it and reads its
headers, ``decode`` does the expensive work.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from threading import Event
from typing import TypeVar, TypeVarTuple

import numpy as np

from saccade.media.controls import ImageControls, VideoControls
from saccade.media.errors import LimitError, MediaError, UploadError
from saccade.media.fetch.fetcher import FetchPolicy, MediaFetcher, Received, anything
from saccade.media.fetch.uploaded import OpenUploaded, Uploaded, UploadedFile
from saccade.media.items import (
    DecodedMedium,
    DecodedVideo,
    PlannedImage,
    PlannedMedium,
    PlannedVideo,
)
from saccade.media.limits import MediaLimits
from saccade.media.memory.budget import Budget
from saccade.media.memory.cpu import lower_thread_priority, usable_cores
from saccade.media.planning.plan import PixelLimits, VisionGeometry
from saccade.media.timing import observe_stage, timed
from saccade.media.types import CHANNELS
from saccade.media.worker import MAX_DECODER_THREADS, MediaWorker

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

_CONCURRENT_FETCHES = 8  # of one list of frames


class MediaLoader:
    """Fetches, plans, decodes and resizes media. Owns its worker threads, which yield to others:
    to the event loop, and to an engine that computes on the same processors.

    Args:
        geometry, limits: of the served checkpoint.
        policy: where media may come from.
        workers: threads that decode; None for one a core.
        media_limits: how large media may be.
        uploaded: opens files that were uploaded; None: there are none.

    Every method may raise any :class:`MediaError`; its ``param`` then starts with the method's
    ``param``, the place of the medium in the request. A cancelled call stops its fetch at once,
    its video decode at the next frame and its image decode before it starts.
    """

    def __init__(
        self,
        geometry: VisionGeometry,
        limits: PixelLimits,
        policy: FetchPolicy,
        workers: int | None = None,
        media_limits: MediaLimits | None = None,
        uploaded: OpenUploaded | None = None,
    ) -> None:
        self._uploaded = uploaded
        self._cores = usable_cores()
        workers = workers or self._cores
        self._media_limits = media_limits or MediaLimits()
        self._worker = MediaWorker(geometry, limits, self._media_limits, workers, self._cores)
        self._fetcher = MediaFetcher(policy)
        self._max_bytes = policy.max_bytes
        self._budget = Budget(self._media_limits.max_decoding_bytes)
        self._executor = ThreadPoolExecutor(
            workers, thread_name_prefix="saccade-media", initializer=lower_thread_priority
        )

    async def close(self) -> None:
        """Ends the connections and, once their present work is done, the threads."""
        await self._fetcher.close()
        await asyncio.to_thread(self._executor.shutdown)

    async def plan(
        self,
        source: str | Uploaded | Sequence[str],
        controls: ImageControls | VideoControls,
        param: str | None = None,
        received: Received = anything,
        owner: str = "",
    ) -> PlannedMedium:
        """Fetches one image or video and plans it from its headers.

        Of a video file frames are counted, and only the first is decoded.

        Args:
            source: a URL, an uploaded file, or the URLs of a video's frames.
            controls: their type says which of the two it is.
            param: its place in the request.
            received: see :data:`saccade.media.fetch.fetcher.Received`.
            owner: whose downloads may be taken again, and whose uploads there are.
        """
        with _located(param):
            if not isinstance(source, str | Uploaded):
                assert isinstance(controls, VideoControls)
                listed = await self._fetch_all(source, received, owner)
                return await self._run(self._worker.plan_frames, listed, controls, param)
            with timed("fetch"):
                file: bytes | UploadedFile
                if isinstance(source, str):
                    file = await self._fetcher.fetch(source, received, owner)
                else:
                    file = await self._open(source.file_id, received, owner)
            if isinstance(controls, ImageControls):
                data = file if isinstance(file, bytes) else await self._run(file.read)
                return await self._run(self._worker.plan_image, data, controls, param)
            return await self._run(self._worker.plan_video, file, controls, param)

    async def decode(self, planned: PlannedMedium) -> DecodedMedium:
        """Decodes and resizes a planned image or video, once there is memory for it."""
        cost, queued = planned.decoding_bytes + planned.plan.decoded_bytes, time.perf_counter()
        with _located(planned.param):
            async with self._budget.hold(cost):
                observe_stage("queue", time.perf_counter() - queued)
                if isinstance(planned, PlannedImage):
                    return await self._run(self._worker.decode_image, planned)
                if planned.source is None:
                    return await self._decode_frames(planned)
                cancelled = Event()
                # What others leave of the cores: many at once do not oversubscribe them.
                threads = max(1, min(self._cores // self._budget.holders, MAX_DECODER_THREADS))
                try:
                    return await self._run(self._worker.decode_video, planned, threads, cancelled)
                finally:
                    cancelled.set()

    async def _open(self, file_id: str, received: Received, owner: str) -> UploadedFile:
        """An uploaded file, which may still have to be read."""
        if self._uploaded is None:
            raise UploadError("no files are kept by this server: send base64 or a URL")
        file = await self._run(self._uploaded, file_id, owner)
        received(len(file))
        return file

    async def _fetch_all(
        self, urls: Sequence[str], received: Received, owner: str
    ) -> tuple[bytes, ...]:
        """Fetches the frames of a list, a few at a time; together they obey the byte cap."""
        limit = self._media_limits.max_listed_frames
        if len(urls) > limit:
            raise LimitError(f"a list of {len(urls)} frames; the limit is {limit}")
        slots = asyncio.Semaphore(_CONCURRENT_FETCHES)
        total = 0

        async def fetch(url: str) -> bytes:
            nonlocal total
            async with slots:
                with timed("fetch"):
                    data = await self._fetcher.fetch(url, received, owner)
            total += len(data)
            if total > self._max_bytes:
                raise LimitError(f"the frames are larger than the limit of {self._max_bytes} bytes")
            return data

        async with asyncio.TaskGroup() as group:
            fetches = [group.create_task(fetch(url)) for url in urls]
        return tuple(task.result() for task in fetches)

    async def _decode_frames(self, planned: PlannedVideo) -> DecodedVideo:
        plan = planned.plan
        frames = np.empty((len(plan.frame_indices), plan.height, plan.width, CHANNELS), np.uint8)
        async with asyncio.TaskGroup() as group:
            for index in range(len(planned.data)):
                group.create_task(self._run(self._worker.decode_frame, planned, frames, index))
        frames[len(planned.data) :] = frames[len(planned.data) - 1]
        return DecodedVideo(frames, plan, planned.digest, planned.sideways)

    async def _run(self, work: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """Runs ``work`` on a worker thread; cancelled before it starts, it never does."""
        queued = time.perf_counter()

        def begin() -> Result:
            observe_stage("queue", time.perf_counter() - queued)
            return work(*arguments)

        # A span belongs to its request: threads do not inherit the context.
        context = copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._executor, context.run, begin)


@contextmanager
def _located(param: str | None) -> Iterator[None]:
    """Completes ``param`` of media errors; unpacks the first error of a group of tasks."""
    try:
        yield
    except MediaError as error:
        error.locate(param)
        raise
    except ExceptionGroup as group:
        first = group.exceptions[0]
        if isinstance(first, MediaError):
            first.locate(param)
        raise first from None
