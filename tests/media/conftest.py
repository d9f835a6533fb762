"""The reference process, and real media files whose content is known."""

import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import pytest_asyncio
from fetching import OPEN
from media_server import serving
from selection import nothing_selected as nothing_selected

from saccade.media import timing
from saccade.media.fetch.fetcher import MediaFetcher

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "tests" / "oracle" / "reference.py"
PACKAGES = ROOT / ".oracle"

Ask = Callable[..., Any]

WIDTH, HEIGHT, BITS = 192, 128, 8


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The stages that are counted, in order; and the niceness of the threads that they end in."""
    counted: list[tuple[str, int]] = []
    labels = timing._STAGE_SECONDS.labels

    def labelled(stage: str) -> Any:
        counted.append((stage, os.nice(0)))
        return labels(stage)

    monkeypatch.setattr(timing._STAGE_SECONDS, "labels", labelled)
    return counted


@pytest.fixture(scope="session")
def reference() -> Iterator[Ask]:
    """Asks qwen-vl-utils and torchvision: ``reference("job", **arguments)`` -> its answer."""
    assert PACKAGES.is_dir(), (
        "pip install --no-deps --target .oracle -r tests/oracle/requirements.txt"
    )
    path = os.pathsep.join(map(str, (PACKAGES, REFERENCE.parent)))
    environment = {**os.environ, "PYTHONPATH": path, "FORCE_QWENVL_VIDEO_READER": "decord"}
    process = subprocess.Popen(
        [sys.executable, str(REFERENCE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def ask(job: str, **arguments: Any) -> Any:
        process.stdin.write(json.dumps({"job": job, **arguments}) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, "the reference process ended; its error is above"
        return json.loads(line)

    yield ask
    process.stdin.close()
    process.wait(timeout=30)


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[str, str]]:
    """Two servers on two loopback addresses; one can play the part of the open internet."""
    with serving("127.0.0.1", "127.0.0.2") as (first, second):
        yield first, second


def numbered_frame(number: int) -> np.ndarray:
    """A picture that shows ``number``: eight bars from left to right, white for a set bit."""
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for bit in range(BITS):
        if number >> bit & 1:
            frame[:, bit * WIDTH // BITS : (bit + 1) * WIDTH // BITS] = 255
    return frame


def _shown_number(frame: np.ndarray) -> int:
    width = frame.shape[1]
    middles = [frame[:, int((bit + 0.5) * width / BITS)].mean() for bit in range(BITS)]
    return sum((middle > 128) << bit for bit, middle in enumerate(middles))


@pytest.fixture(scope="session")
def shown_number() -> Callable[[np.ndarray], int]:
    """Reads the number off a frame of a clip made by ``encode_clip``."""
    return _shown_number


@pytest.fixture(scope="session")
def encode_clip() -> Callable[..., bytes]:
    """Encodes a clip whose frames show their numbers."""

    def encode(
        container: str = "mp4",
        codec: str = "libx264",
        frames: int = 40,
        rate: int | Fraction = 25,
        times: list[int] | None = None,
        rotation: int = 0,
        codec_options: dict[str, str] | None = None,
        **options: str,
    ) -> bytes:
        """``times``: presentation times in milliseconds, instead of a constant ``rate``.

        ``rotation``: degrees, written into the file for the player to apply.
        """
        output = io.BytesIO()
        with av.open(output, "w", format=container, options=options) as writer:
            stream = writer.add_stream(codec, rate=rate)
            stream.width, stream.height = WIDTH, HEIGHT
            stream.pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
            stream.thread_count = 1
            stream.options = codec_options or {}
            if rotation:
                stream.set_display_rotation(rotation)
            if times is not None:
                stream.codec_context.time_base = Fraction(1, 1000)
            for number in range(frames):
                frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
                if times is not None:
                    frame.pts, frame.time_base = times[number], Fraction(1, 1000)
                writer.mux(stream.encode(frame))
            writer.mux(stream.encode())
        return output.getvalue()

    return encode


@pytest_asyncio.fixture
async def fetcher() -> AsyncIterator[MediaFetcher]:
    fetcher = MediaFetcher(OPEN)
    yield fetcher
    await fetcher.close()
