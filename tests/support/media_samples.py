"""Rasters with structure at every scale, from a seed."""

import numpy as np
import numpy.typing as npt


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
