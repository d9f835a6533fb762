"""Antialiased bicubic resize of pixels, bit-equal to the reference processor's.

On the calling thread alone, without the GIL. Compiled (`kernels/cpu/csrc/resize.cpp`) where that
has been built, is right and the sizes allow it, else PyTorch's: the bytes are the same.
"""

import numpy as np
import torch

from saccade.kernels import reference
from saccade.kernels.cpu import compiled
from saccade.media.types import Pixels


def resize(pixels: Pixels, height: int, width: int, out: Pixels | None = None) -> Pixels:
    """Resize uint8 RGB [..., H, W, 3] to [..., height, width, 3].

    Bit-equal to torchvision's v2 resize, which the reference processor uses. Returns ``pixels``
    itself when the size is right already.

    Args:
        out: contiguous, of the result's shape, which may lie in it.
    """
    *leading, old_height, old_width, channels = pixels.shape
    if (old_height, old_width) == (height, width):
        return pixels
    pixels = np.ascontiguousarray(pixels)
    if not pixels.flags.writeable:
        pixels = pixels.copy()
    batch = torch.from_numpy(pixels).view(-1, old_height, old_width, channels)
    run = compiled.operation("resize", torch.uint8)
    if run is not None:
        # NumPy asks for huge pages, which spares the time for each small one.
        result = np.empty((*leading, height, width, channels), np.uint8) if out is None else out
        if run(batch, torch.from_numpy(result).view(-1, height, width, channels)):
            return result
    return _resize_in_torch(batch, height, width).reshape(*leading, height, width, channels)


def _resize_in_torch(batch: torch.Tensor, height: int, width: int) -> Pixels:
    result: Pixels = reference.resize(batch, height, width).numpy()
    return result
