"""JPEG -> resized RGB raster in one go, row by row."""

import numpy as np

from saccade.kernels import cpu_extension
from saccade.media.image import ImageHeader
from saccade.media.resize import Pixels


def decode_resized_jpeg(data: bytes, header: ImageHeader, height: int, width: int) -> Pixels | None:
    """The upright image as uint8 RGB [height, width, 3]: equal to decoding, then resizing, it.

    Without the GIL, and without the memory of the decoded picture. None where that has to be done
    one after the other: the file is no JPEG, or one that is turned, in other colours, flawed or
    of that size already; or the compiled form (`kernels/cpu_jpeg.cpp`) is not there.
    """
    decode = cpu_extension.load().decode_resized_jpeg
    as_stored = header.plain_jpeg and header.orientation == 1
    if decode is None or not as_stored or (header.height, header.width) == (height, width):
        return None
    # NumPy asks for huge pages, which spares the time for each small one.
    result = np.empty((height, width, 3), np.uint8)
    size = (len(data), header.height, header.width)
    return result if decode(data, *size, result.ctypes.data, height, width) else None
