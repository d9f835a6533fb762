"""Pixels, and what an image says of them: the nouns that planning, decoding and memory share."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""RGB, ``[..., height, width, 3]``."""
CHANNELS = 3

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
