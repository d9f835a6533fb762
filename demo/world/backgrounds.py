"""What lies behind the shapes: plain, gradient, noise, stripes, or a piece of a photograph."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

_PHOTO = Path(__file__).parents[1] / "media" / "temple.jpg"
_PHOTO_WIDTH = 640


def background(rng: np.random.Generator, width: int, height: int) -> Pixels:
    """A random backdrop, uint8 RGB ``[height, width, 3]``."""
    maker = (_plain, _plain, _gradient, _noise, _stripes, _photo)[rng.integers(6)]
    return np.clip(maker(rng, width, height), 0, 255).astype(np.uint8)


def _colour(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Any brightness, little saturation: nothing that could pass for a thing."""
    return rng.uniform(20, 235) + rng.uniform(-22, 22, 3)


def _plain(rng: np.random.Generator, width: int, height: int) -> npt.NDArray[np.float64]:
    return np.broadcast_to(_colour(rng), (height, width, 3))


def _gradient(rng: np.random.Generator, width: int, height: int) -> npt.NDArray[np.float64]:
    share = np.linspace(0, 1, height)[:, None] * rng.uniform(0, 1)
    share = share + np.linspace(0, 1, width)[None, :] * rng.uniform(0, 1)
    share = (share / max(share.max(), 1e-9))[:, :, None]
    start = _colour(rng)
    return start * (1 - share) + (start + rng.uniform(-60, 60)) * share


def _noise(rng: np.random.Generator, width: int, height: int) -> npt.NDArray[np.float64]:
    grain = int(rng.integers(2, 16))
    small = rng.uniform(-1, 1, (height // grain + 2, width // grain + 2)).astype(np.float32)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR)
    return _colour(rng) + np.asarray(image)[:, :, None] * rng.uniform(8, 40)


def _stripes(rng: np.random.Generator, width: int, height: int) -> npt.NDArray[np.float64]:
    across, down = rng.uniform(-0.5, 0.5, 2)
    phase = across * np.arange(width)[None, :] + down * np.arange(height)[:, None]
    return _colour(rng) + np.sign(np.sin(phase))[:, :, None] * rng.uniform(5, 25)


def _photo(rng: np.random.Generator, width: int, height: int) -> npt.NDArray[np.float64]:
    photo = _photograph()
    scale = max(width / photo.width, height / photo.height)
    share = float(rng.uniform(0.3, 1.0)) / scale if scale < 1 else 1 / scale
    wide, high = min(width * share, photo.width), min(height * share, photo.height)
    left = float(rng.uniform(0, photo.width - wide))
    top = float(rng.uniform(0, photo.height - high))
    piece = photo.resize((width, height), box=(left, top, left + wide, top + high))
    # Half its contrast, so that a thing's colour is never a matter of opinion.
    pixels = np.asarray(piece, dtype=np.float64)
    return pixels.mean() + (pixels - pixels.mean()) * rng.uniform(0.4, 0.8)


@lru_cache(maxsize=1)
def _photograph() -> Image.Image:
    with Image.open(_PHOTO) as photo:
        height = round(photo.height * _PHOTO_WIDTH / photo.width)
        return photo.convert("RGB").resize((_PHOTO_WIDTH, height))
