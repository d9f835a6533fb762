"""Rasters with structure at every scale, from a seed, and real files that hold them losslessly."""

import base64
import io

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

# Containers and codecs whose packets say when their frames are shown.
STAMPED = [
    ("mp4", "libx264"),
    ("mov", "libx264"),
    ("matroska", "libx264"),
    ("webm", "libvpx-vp9"),
    ("webm", "libvpx"),
    ("gif", "gif"),
]


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Noise on a slope: hard edges in both directions and the whole range of values."""
    chance = np.random.default_rng(seed)
    slope = np.linspace(0, 255, width)[None, :, None]
    pixels = slope * 0.5 + chance.integers(0, 256, (height, width, channels)) * 0.5
    return pixels.astype(np.uint8)


def raster(seed: int, frames: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """uint8 ``[frames, height, width, 3]``: moving colour gradients, a moving square and noise."""
    random = np.random.default_rng(seed)
    time, row, column = np.meshgrid(
        np.arange(frames), np.arange(height), np.arange(width), indexing="ij"
    )
    waves = random.uniform(0.02, 0.4, (3, 3))
    phase = random.uniform(0, 6, 3)
    ticks = np.stack([time, row, column], -1) @ waves.T + phase
    pixels = 127 + 90 * np.sin(ticks) + random.normal(0, 12, ticks.shape)
    for frame in range(frames):
        top, left = (frame * 3) % max(1, height - 8), (frame * 5) % max(1, width - 8)
        pixels[frame, top : top + 8, left : left + 8] = random.integers(0, 256, 3)
    return pixels.clip(0, 255).astype(np.uint8)


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A PNG file of ``[height, width, 3]``."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def avi(frames: npt.NDArray[np.uint8], rate: int) -> bytes:
    """An AVI file of ``[frames, height, width, 3]``, FFV1 in RGB: nothing is lost."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="avi") as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def as_url(data: bytes, media_type: str) -> str:
    """A data: URL of a file."""
    return f"data:{media_type};base64," + base64.b64encode(data).decode()
