"""Antialiased bicubic resize of pixels, bit-equal to the reference processor's.

On the calling thread alone, without the GIL. Compiled (`kernels/cpu/csrc/resize.cpp`) where that
has been built, is right and the sizes allow it, else PyTorch's: the bytes are the same. Most JPEGs
and PNGs are resized in the pass that decodes them, row by row.
"""

from collections.abc import Callable

import numpy as np
import torch

from saccade.kernels import reference
from saccade.kernels.cpu import compiled
from saccade.media.decode.png import SIGNATURE, inflate_png
from saccade.media.limits import ImageLimits
from saccade.media.types import CHANNELS, ImageHeader, Pixels


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


def decode_resized_png(
    data: bytes,
    header: ImageHeader,
    out: Pixels,
    limits: ImageLimits,
    buffer: Callable[[], Pixels | None],
) -> Pixels | None:
    """The upright image in ``out`` if it could be resized as it was decoded, else as it is.

    Without the GIL. None, with anything in ``out``, where Pillow has to decode it: the file is no
    plain PNG (`png`), or the compiled form (`kernels/cpu/csrc/png.cpp`) is not there or out of use.

    Args:
        out: as of `decode_resized_jpeg`.
        buffer: gives three bytes a pixel, for an image that has to be resized afterwards, or None.
    """
    if not data.startswith(SIGNATURE):
        return None
    run = compiled.operation("resize_png", torch.uint8)
    png = inflate_png(data, limits) if run is not None else None
    if run is None or png is None:
        return None
    stored = png.rows, png.height, png.width, png.channels, header.orientation
    assert out.flags.c_contiguous
    if run(*stored, out.ctypes.data, *out.shape[:2]):
        return out
    size = header.height, header.width, CHANNELS
    whole = np.empty(size, np.uint8) if (memory := buffer()) is None else memory.reshape(size)
    return whole if run(*stored, whole.ctypes.data, *size[:2]) else None


def _resize_in_torch(batch: torch.Tensor, height: int, width: int) -> Pixels:
    result: Pixels = reference.resize(batch, height, width).numpy()
    return result
