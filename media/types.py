"""Pixels, image headers and packet lists: what planning, decoding and memory share."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""RGB, ``[..., height, width, 3]``."""
CHANNELS = 3

PACKET = np.dtype([("stamp", np.int64), ("keyframe", np.bool_), ("shown", np.bool_)])
"""A video's packet as the container lists it: when its frame is shown, in the stream's units, and
whether it is shown at all (an edit list may cut it off)."""
NO_STAMP = -(2**63)  # FFmpeg's AV_NOPTS_VALUE: not known

Packets = npt.NDArray[np.void]
"""Of type ``PACKET``, in decoding order: ``[packets]``."""

SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


@dataclass(frozen=True)
class ImageHeader:
    """What an image's header says, and what follows for its decoding."""

    width: int  # upright, in pixels
    height: int
    orientation: int  # of the stored pixels, 1 to 8 (EXIF 2.32, tag 0x0112)
    decoding_bytes: int  # held at most while it is decoded, the raster included
    plain_jpeg: bool  # libjpeg-turbo alone can decode it

    @property
    def sideways(self) -> bool:
        """Stored turned by a quarter: width and height are swapped in the file."""
        return self.orientation in SIDEWAYS
