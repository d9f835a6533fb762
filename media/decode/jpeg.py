"""Decodes and resizes a JPEG in one pass, row by row (compiled)."""

import torch

from saccade.kernels.cpu import compiled
from saccade.media.types import ImageHeader, Pixels


def decode_resized_jpeg(data: bytes, header: ImageHeader, out: Pixels) -> bool:
    """Fills ``out``, uint8 RGB [height, width, 3]: equal to decoding the image, then resizing it.

    Without the GIL, and without the memory of the decoded image. False, with anything in
    ``out``, where that has to be done one after the other: the file is no JPEG, or one that is
    turned, in other colours, flawed or of that size already; or the compiled form
    (`kernels/cpu/csrc/jpeg.cpp`) is not there, or out of use.
    """
    height, width, _ = out.shape
    as_stored = header.plain_jpeg and header.orientation == 1
    if not as_stored or (header.height, header.width) == (height, width):
        return False
    decode = compiled.operation("decode_resized_jpeg", torch.uint8)
    if decode is None:
        return False
    assert out.flags.c_contiguous
    size = (len(data), header.height, header.width)
    return bool(decode(data, *size, out.ctypes.data, height, width))
