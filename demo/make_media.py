"""Makes demo/media/temple.mp4 from demo/media/temple.jpg: a pan over the roofs, then a zoom out.

Run from the checkout: `python demo/make_media.py`. The clip is kept in the repository; this
script is how it came to be.
"""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

WIDTH, HEIGHT = 320, 240
FRAMES_PER_SECOND = 25
SECONDS = 4
# The camera's view at three moments: centre x, centre y and width as fractions of the photo.
_START = (0.30, 0.40, 0.34)
_MIDDLE = (0.68, 0.42, 0.34)
_END = (0.50, 0.50, 0.88)


def _view(moment: float) -> tuple[float, float, float]:
    """The view at `moment` in 0..1, easing in and out of both movements."""
    first, last = (_START, _MIDDLE) if moment < 0.5 else (_MIDDLE, _END)
    share = 2 * moment % 1 if moment < 1 else 1.0
    eased = share * share * (3 - 2 * share)
    x, y, width = (a + (b - a) * eased for a, b in zip(first, last, strict=True))
    return x, y, width


def _frame(photo: Image.Image, moment: float) -> Image.Image:
    x, y, share = _view(moment)
    width = share * photo.width
    height = width * HEIGHT / WIDTH
    left = min(max(x * photo.width - width / 2, 0), photo.width - width)
    top = min(max(y * photo.height - height / 2, 0), photo.height - height)
    box = (left, top, left + width, top + height)  # fractions of pixels keep the motion smooth
    return photo.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, box=box)


def make_clip(photo_path: Path, clip_path: Path) -> None:
    """Write an H.264 MP4 of `SECONDS` seconds to `clip_path`."""
    photo = Image.open(photo_path).convert("RGB")
    frames = FRAMES_PER_SECOND * SECONDS
    with av.open(str(clip_path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(FRAMES_PER_SECOND))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        # One thread: nearly the same clip every time. The colour tags say what the conversion does.
        stream.options = {
            "crf": "27",
            "preset": "slow",
            "threads": "1",
            "x264-params": "colorprim=smpte170m:transfer=smpte170m:colormatrix=smpte170m",
        }
        for index in range(frames):
            image = av.VideoFrame.from_ndarray(
                np.asarray(_frame(photo, index / (frames - 1))), format="rgb24"
            )
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    media = Path(__file__).parent / "media"
    make_clip(media / "temple.jpg", media / "temple.mp4")
