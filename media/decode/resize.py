"""Antialiased bicubic resize of pixels, bit-equal to the reference processor's.

On the calling thread alone, without the GIL. Compiled (`kernels/cpu/csrc/resize.cpp`) where that
has been built, is right and the sizes allow it, else PyTorch's: the bytes are the same. Most JPEGs
are resized in the pass that decodes them, row by row.
"""

import numpy as np
import torch

from saccade.kernels import reference
from saccade.kernels.cpu import compiled
from saccade.media.types import ImageHeader, Pixels


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


def decode_resized_jpeg(data: bytes, header: ImageHeader, out: Pixels) -> bool:
    """Fills ``out``, uint8 RGB [height, width, 3]: equal to decoding the image, then resizing it.

    Without the GIL, and without the memory of the decoded image. False, with anything in
    ``out``, where that has to be done one after the other: the file is no JPEG, or one in other
    colours, flawed or as it is to be already; or the compiled form (`kernels/cpu/csrc/jpeg.cpp`) is
    not there, or out of use.
    """
    height, width, _ = out.shape
    stored = header.height, header.width
    if not header.plain_jpeg or (header.orientation == 1 and stored == (height, width)):
        return False
    if header.sideways:
        stored = header.width, header.height
    decode = compiled.operation("decode_resized_jpeg", torch.uint8)
    if decode is None:
        return False
    assert out.flags.c_contiguous
    return bool(
        decode(data, len(data), *stored, header.orientation, out.ctypes.data, height, width)
    )


def _resize_in_torch(batch: torch.Tensor, height: int, width: int) -> Pixels:
    result: Pixels = reference.resize(batch, height, width).numpy()
    return result
