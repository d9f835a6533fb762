"""PNGs that are resized while they are decoded: as Pillow decodes them, or left to Pillow."""

import io
import random
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from damage import damaged
from media_samples import noise
from PIL import Image
from real_files import encoded

from saccade.kernels.cpu import extension
from saccade.media.controls import ImageControls
from saccade.media.decode.image import decode_image, read_header
from saccade.media.decode.png import SIGNATURE, inflate_png
from saccade.media.decode.resize import decode_resized_png, resize
from saccade.media.errors import DecodeError
from saccade.media.limits import ImageLimits, MediaLimits
from saccade.media.planning.plan import PixelLimits, VisionGeometry
from saccade.media.types import Pixels
from saccade.media.worker import MediaWorker

# Without it Pillow decodes, which others test.
pytestmark = pytest.mark.skipif(extension.load().resize_png is None, reason=extension.load().reason)
LIMITS = ImageLimits()
COLOURS = {"L": 0, "RGB": 2, "RGBA": 6}


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    pixels: Pixels, filters: list[int], pieces: int = 1, before: bytes = b"", **fields: int
) -> bytes:
    """A file with these filters, row by row, in so many IDAT chunks, made by no library.

    Args:
        pixels: ``[height, width, channels]``.
        fields: ``bits`` or ``interlaced``, which are then wrong.
    """
    height, width, channels = pixels.shape
    above = np.zeros((width, channels), np.int64)
    rows = []
    for row, kind in zip(pixels.astype(np.int64), filters, strict=True):
        left, corner = np.zeros_like(row), np.zeros_like(row)
        left[1:], corner[1:] = row[:-1], above[:-1]
        distances = np.stack(
            [abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)]
        )
        paeth = np.choose(distances.argmin(0), [left, above, corner])
        expected = (0 * row, left, above, (left + above) // 2, paeth)[kind]
        rows.append(bytes([kind]) + ((row - expected) % 256).astype(np.uint8).tobytes())
        above = row
    data = zlib.compress(b"".join(rows))
    colour = {1: 0, 3: 2, 4: 6}[channels]
    header = struct.pack(
        ">IIBBBBB", width, height, fields.get("bits", 8), colour, 0, 0, fields.get("interlaced", 0)
    )
    step = -(-len(data) // pieces)
    parts = (chunk(b"IDAT", data[at : at + step]) for at in range(0, len(data), step))
    return SIGNATURE + chunk(b"IHDR", header) + before + b"".join(parts) + chunk(b"IEND", b"")


def resized(data: bytes, width: int, height: int) -> bytes:
    """With another size in its header."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return data[:8] + header + data[8 + len(header) :]


def fused(data: bytes, height: int, width: int) -> Pixels | None:
    """None where Pillow has to decode it."""
    out = np.empty((height, width, 3), np.uint8)
    done = decode_resized_png(data, read_header(data), out, LIMITS, lambda: None)
    return None if done is None else resize(done, height, width)


def one_after_the_other(data: bytes, height: int, width: int) -> Pixels:
    return resize(decode_image(data), height, width)


def sample(height: int, width: int, channels: int) -> Pixels:
    """Smooth in most places; alpha of every kind."""
    pixels = noise(height // 5 + 2, width // 5 + 2)
    smooth = np.asarray(Image.fromarray(pixels).resize((width, height)))
    alpha = np.clip(smooth[..., :1].astype(int) * 3 - 250, 0, 255).astype(np.uint8)
    return np.concatenate([smooth, alpha], 2)[..., :channels].copy()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, "mixed"])
@pytest.mark.parametrize("size", [(67, 91), (5, 64), (1, 30), (130, 33)])
def test_every_filter(channels: int, kind: int | str, size: tuple[int, int]) -> None:
    chance = random.Random(channels)
    filters = [chance.randrange(5) if kind == "mixed" else int(kind) for _ in range(size[0])]
    data = png(sample(*size, channels), filters, pieces=3)
    for new in ((84, 140), (28, 56), size):
        ours = fused(data, *new)
        assert ours is not None
        np.testing.assert_array_equal(ours, one_after_the_other(data, *new))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", COLOURS)
def test_as_a_library_writes_them_and_turned(mode: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(sample(120, 77, 4), "RGBA").convert(mode)
    data = encoded(image, "PNG", exif=exif)
    upright = decode_image(data).shape[:2]
    for new in ((112, 84), (56, 140), upright):
        ours = fused(data, *new)
        assert ours is not None
        np.testing.assert_array_equal(ours, one_after_the_other(data, *new))


def test_every_alpha_is_laid_on_white_as_pillow_does() -> None:
    levels = np.stack(np.meshgrid(np.arange(256), np.arange(256)), -1).astype(np.uint8)
    pixels = np.stack([levels[..., 0], 255 - levels[..., 0], levels[..., 0], levels[..., 1]], -1)
    data = encoded(Image.fromarray(pixels, "RGBA"), "PNG")
    np.testing.assert_array_equal(fused(data, 256, 256), decode_image(data))


def test_what_shrinks_too_much_for_the_table_is_decoded_whole() -> None:
    data = encoded(Image.fromarray(sample(90, 1200, 3)), "PNG")
    out = np.empty((84, 56, 3), np.uint8)
    buffer = np.empty(90 * 1200 * 3, np.uint8)
    done = decode_resized_png(data, read_header(data), out, LIMITS, lambda: buffer)
    assert done is not None
    assert np.shares_memory(done, buffer)
    np.testing.assert_array_equal(done, decode_image(data))


def test_left_to_pillow() -> None:
    pixels = sample(60, 80, 3)
    image, plain = Image.fromarray(pixels), [0] * 60
    whole = png(pixels, plain)
    body = whole.index(b"IDAT") + 20
    others = {
        "a palette": encoded(image.convert("P"), "PNG"),
        "two colours": encoded(image.convert("1"), "PNG"),
        "grey with alpha": encoded(image.convert("LA"), "PNG"),
        "16 bits": encoded(Image.fromarray(np.zeros((60, 80), np.uint16)), "PNG"),
        "a colour that is clear": encoded(image, "PNG", transparency=(1, 2, 3)),
        "an animation": encoded(image, "PNG", save_all=True, append_images=[image.rotate(90)]),
        "interlaced": png(pixels, plain, interlaced=1),
        "4 bits": png(pixels, plain, bits=4),
        "a filter that there is not": whole.replace(whole[body:], b""),
        "half of it": whole[: len(whole) // 2],
        "a wrong sum": whole[:body] + bytes([whole[body] ^ 1]) + whole[body + 1 :],
        "less than its size": resized(png(pixels, plain), 80, 61),
        "a JPEG": encoded(image, "JPEG"),
    }
    assert inflate_png(whole, LIMITS) is not None
    for name, data in others.items():
        assert not data.startswith(SIGNATURE) or inflate_png(data, LIMITS) is None, name


def test_rows_that_are_too_many_are_left_out() -> None:
    """As Pillow does."""
    data = resized(png(sample(60, 80, 3), [4] * 60), 80, 50)
    ours = fused(data, 50, 80)
    assert ours is not None
    np.testing.assert_array_equal(ours, decode_image(data))


def test_rows_of_another_filter_are_not_taken() -> None:
    """As Pillow says of them."""
    rows = b"".join(bytes([5]) + bytes(90) for _ in range(30))
    header = struct.pack(">IIBBBBB", 30, 30, 8, 2, 0, 0, 0)
    data = SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
    data += chunk(b"IEND", b"")
    assert fused(data, 28, 28) is None
    with pytest.raises(DecodeError):
        decode_image(data)


def test_too_many_chunks_are_refused() -> None:
    data = png(sample(60, 80, 3), [0] * 60, pieces=50)
    assert inflate_png(data, ImageLimits(max_png_chunks=60)) is not None
    with pytest.raises(DecodeError, match="more than 40 chunks"):
        inflate_png(data, ImageLimits(max_png_chunks=40))


def test_damage_is_never_taken_for_a_picture() -> None:
    """What comes out of a damaged file is what Pillow makes of it, or nothing."""
    chance = random.Random(5)
    sound = [
        encoded(Image.fromarray(sample(80, 120, 4), "RGBA").convert(mode), "PNG")
        for mode in COLOURS
    ]
    refused = 0
    for _ in range(300):
        data = damaged(chance.choice(sound), chance)
        try:
            read_header(data)
        except DecodeError:
            continue
        ours = fused(data, 112, 84)
        if ours is None:
            refused += 1
        else:
            np.testing.assert_array_equal(ours, one_after_the_other(data, 112, 84))
    assert refused > 100


@pytest.mark.parametrize("compiled", [True, False])
def test_the_work_gives_the_same_pixels(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = MediaWorker(VisionGeometry(), PixelLimits(), MediaLimits(), 1, 1)
    if not compiled:
        there = extension.load()._replace(resize_png=None)
        monkeypatch.setattr(extension, "load", lambda: there)
    files = [
        encoded(Image.fromarray(sample(*size, 4), "RGBA"), "PNG") for size in ((84, 84), (300, 410))
    ]
    for controls in (ImageControls(), ImageControls(max_pixels=4 * 784), ImageControls(draft=True)):
        for data in files:
            planned = worker.plan_image(data, controls, None)
            size = planned.plan.height, planned.plan.width
            pixels = worker.decode_image(planned).pixels
            np.testing.assert_array_equal(pixels, one_after_the_other(data, *size))


def test_several_threads_at_once() -> None:
    files = [
        encoded(Image.fromarray(sample(200 + 9 * n, 150 + 7 * n, 3)), "PNG") for n in range(12)
    ]
    expected = [one_after_the_other(data, 364, 308) for data in files]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for ours, right in zip(
                pool.map(lambda data: fused(data, 364, 308), files), expected, strict=True
            ):
                np.testing.assert_array_equal(ours, right)


def test_samples_are_what_pillow_reads() -> None:
    """The files that no library has made say what they should."""
    pixels = sample(40, 50, 3)
    for kind in range(5):
        with Image.open(io.BytesIO(png(pixels, [kind] * 40))) as image:
            np.testing.assert_array_equal(np.asarray(image), pixels)
