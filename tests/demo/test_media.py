"""The bundled photograph and clip are what they are said to be, and are credited."""

from pathlib import Path

import av
import numpy as np
from PIL import Image

from saccade.demo import run
from saccade.demo.make_media import make_clip

MEDIA = Path(run.__file__).parent / "media"


def test_the_photograph_is_a_jpeg():
    with Image.open(MEDIA / "temple.jpg") as photo:
        photo.load()
        assert (photo.format, photo.mode, photo.size) == ("JPEG", "RGB", (640, 427))


def test_the_clip_is_small_h264_and_moves():
    assert (MEDIA / "temple.mp4").stat().st_size < 300_000
    with av.open(str(MEDIA / "temple.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.width, stream.height, stream.average_rate) == (320, 240, 25)
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode()]
    assert len(frames) == 100
    steps = [
        np.abs(after - before).mean()
        for before, after in zip(frames[::25], frames[24::25], strict=True)
    ]
    assert min(steps) > 5


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_the_script_makes_the_clip(tmp_path: Path):
    """The same moments, but for what an encoder does differently from run to run."""
    make_clip(MEDIA / "temple.jpg", tmp_path / "clip.mp4")
    made = frames_of(tmp_path / "clip.mp4").astype(int)
    kept = frames_of(MEDIA / "temple.mp4").astype(int)
    assert made.shape == kept.shape
    second = 25
    moved = np.abs(kept[second:] - kept[:-second]).mean()
    assert np.abs(made - kept).mean() < moved / 4


def test_every_medium_is_credited():
    credits = (MEDIA / "CREDITS.md").read_text(encoding="utf-8")
    files = [file.name for file in MEDIA.iterdir() if file.suffix != ".md"]
    assert len(files) == 2
    for name in files:
        assert f"`{name}`" in credits
    assert "https://creativecommons.org/licenses/by/2.0/" in credits
