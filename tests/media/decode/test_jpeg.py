"""JPEGs resized while they are decoded: as if one came after the other, or not at all."""

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import simplejpeg
from damage import damaged
from media_samples import noise
from PIL import Image
from real_files import encoded

from saccade.kernels.cpu import extension
from saccade.media.controls import ImageControls
from saccade.media.decode.image import decode_image, read_header
from saccade.media.decode.resize import decode_resized_jpeg, resize
from saccade.media.errors import DecodeError
from saccade.media.limits import MediaLimits
from saccade.media.planning.plan import PixelLimits, VisionGeometry
from saccade.media.types import Pixels
from saccade.media.worker import MediaWorker

# Without it everything is done one after the other, which others test.
pytestmark = pytest.mark.skipif(
    extension.load().decode_resized_jpeg is None, reason=extension.load().reason
)


def fused(data: bytes, height: int, width: int) -> Pixels | None:
    out = np.empty((height, width, 3), np.uint8)
    return out if decode_resized_jpeg(data, read_header(data), out) else None


def one_after_the_other(data: bytes, height: int, width: int) -> Pixels:
    return resize(decode_image(data), height, width)


def picture(height: int, width: int, mode: str = "RGB") -> Image.Image:
    """Smooth, as photographs are, with edges."""
    small = Image.fromarray(noise(height // 6 + 2, width // 6 + 2))
    return small.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


SIZES = [
    ((301, 402), (308, 392)),
    ((480, 640), (476, 640)),  # one side kept
    ((480, 640), (480, 644)),
    ((97, 103), (280, 308)),  # up
    ((403, 517), (224, 280)),  # down
    ((8, 700), (28, 1400)),
    ((5, 64), (28, 84)),  # rows that are decoded at once: one group and a piece
    ((1, 30), (28, 56)),
]


@pytest.mark.parametrize("sampling", ["444", "422", "420", "440", "411", "Gray"])
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_equal_to_one_after_the_other(
    sampling: str, old: tuple[int, int], new: tuple[int, int]
) -> None:
    pixels = np.asarray(picture(*old))
    if sampling == "Gray":
        data = simplejpeg.encode_jpeg(pixels[:, :, :1].copy(), colorspace="Gray")
    else:
        data = simplejpeg.encode_jpeg(pixels, quality=90, colorsubsampling=sampling)
    ours = fused(data, *new)
    assert ours is not None
    np.testing.assert_array_equal(ours, one_after_the_other(data, *new))


@pytest.mark.parametrize(
    "options",
    [{"progressive": True}, {"restart_marker_rows": 1}, {"quality": 3}, {"keep_rgb": True}],
    ids=str,
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_whatever_way_it_is_coded(mode: str, options: dict[str, int]) -> None:
    data = encoded(picture(230, 345, mode), "JPEG", **options)
    ours = fused(data, 224, 336)
    assert ours is not None
    np.testing.assert_array_equal(ours, one_after_the_other(data, 224, 336))


def test_several_threads_at_once() -> None:
    files = [encoded(picture(400 + 9 * n, 300 + 7 * n), "JPEG") for n in range(12)]
    expected = [one_after_the_other(data, 364, 308) for data in files]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for ours, right in zip(
                pool.map(lambda data: fused(data, 364, 308), files), expected, strict=True
            ):
                np.testing.assert_array_equal(ours, right)


def turned(orientation: int, height: int = 90, width: int = 120) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture(height, width), "JPEG", exif=exif)


@pytest.mark.parametrize("orientation", range(10))  # 1 to 8 mean something
@pytest.mark.parametrize("stored", [(67, 91), (130, 64), (9, 300)])
def test_turned_upright(orientation: int, stored: tuple[int, int]) -> None:
    """Rows first, then columns, of the upright image: rounding in between tells the order."""
    data = turned(orientation, *stored)
    header = read_header(data)
    upright = header.height, header.width
    assert upright == (stored[::-1] if orientation in (5, 6, 7, 8) else stored)
    sizes = [(84, 140), (140, 84), (upright[0], 112), (112, upright[1])]
    for size in sizes if orientation == 1 else [*sizes, upright]:
        ours = fused(data, *size)
        assert ours is not None
        np.testing.assert_array_equal(ours, one_after_the_other(data, *size))


def test_left_to_others() -> None:
    whole = encoded(picture(90, 120), "JPEG")
    others = {
        "of that size": encoded(picture(84, 112), "JPEG"),
        "four colours": encoded(picture(90, 120, "CMYK"), "JPEG"),
        "PNG": encoded(picture(90, 120), "PNG"),
        "bytes in between that mean nothing": whole[:-2] + b"lost" + whole[-2:],
        "too narrow for the table": encoded(picture(90, 5), "JPEG"),
        "shrinks too much for the table": encoded(picture(90, 1200), "JPEG"),
    }
    assert fused(whole, 84, 112) is not None
    for name, data in others.items():
        assert fused(data, 84, 112) is None, name
        assert one_after_the_other(data, 84, 112).shape == (84, 112, 3)
    out = np.empty((84, 112, 3), np.uint8)
    assert not decode_resized_jpeg(whole[:-900], read_header(whole), out)
    # The header that is passed along is another picture's.
    other = read_header(encoded(picture(91, 120), "JPEG"))
    assert not decode_resized_jpeg(whole, other, out)


def test_damage_is_never_taken_for_a_picture() -> None:
    """What comes out of a damaged file is what comes out one after the other, or nothing."""
    chance = random.Random(11)
    sound = [
        encoded(picture(120, 200), "JPEG"),
        encoded(picture(120, 200), "JPEG", progressive=True),
        encoded(picture(120, 200, "L"), "JPEG", restart_marker_rows=1),
    ]
    whole = refused = 0
    for _ in range(300):
        data = damaged(chance.choice(sound), chance)
        try:
            header = read_header(data)
        except DecodeError:
            continue
        ours = np.empty((112, 196, 3), np.uint8)
        if decode_resized_jpeg(data, header, ours):
            whole += 1
            np.testing.assert_array_equal(ours, one_after_the_other(data, 112, 196))
        else:
            refused += 1
    assert whole > 20
    assert refused > 100


@pytest.mark.parametrize("compiled", [True, False])
def test_the_work_gives_the_same_pixels(
    compiled: bool, monkeypatch: pytest.MonkeyPatch, stages: list[tuple[str, int]]
) -> None:
    worker = MediaWorker(VisionGeometry(), PixelLimits(), MediaLimits(), 1, 1)
    if not compiled:
        there = extension.load()._replace(decode_resized_jpeg=None)
        monkeypatch.setattr(extension, "load", lambda: there)
    for data in (encoded(picture(300, 410), "JPEG"), turned(6), encoded(picture(84, 84), "JPEG")):
        planned = worker.plan_image(data, ImageControls(), None)
        stages.clear()
        pixels = worker.decode_image(planned).pixels
        size = planned.plan.height, planned.plan.width
        np.testing.assert_array_equal(pixels, one_after_the_other(data, *size))
        assert [stage for stage, _ in stages] == ["decode", "resize"]
