"""Memory that is used again never shows in what was returned before."""

import base64
import io

import numpy as np
import pytest
from loading import load
from PIL import Image

from saccade.media.controls import ImageControls
from saccade.media.decode.image import decode_image
from saccade.media.decode.resize import resize
from saccade.media.fetch.fetcher import FetchPolicy
from saccade.media.loader import MediaLoader
from saccade.media.memory import raster_pool
from saccade.media.memory.thread_buffer import ThreadBuffer
from saccade.media.planning.plan import PixelLimits, VisionGeometry


def jpeg(width: int, height: int, seed: int, mode: str = "RGB", orientation: int = 1) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    output = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(output, "JPEG", exif=exif)
    return output.getvalue()


PICTURES = [
    (jpeg(300, 200, 0), ImageControls()),  # resized
    (jpeg(280, 196, 1), ImageControls()),  # already the planned size
    (jpeg(280, 196, 2), ImageControls(resized_width=140, resized_height=84)),
    (jpeg(280, 196, 3, orientation=6), ImageControls(resized_width=84, resized_height=140)),
    (jpeg(300, 200, 4, mode="L"), ImageControls()),
    (jpeg(300, 200, 5, mode="CMYK"), ImageControls()),  # PIL decodes it
    (jpeg(560, 392, 6), ImageControls(max_pixels=280 * 196, draft=True)),  # shrunk on the way
]


@pytest.mark.parametrize("large", [10**9, 1], ids=["allocator", "rasters"])
async def test_pictures_outlive_those_that_follow(
    large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raster_pool, "_LARGE", large)
    loader = MediaLoader(VisionGeometry(), PixelLimits(), FetchPolicy(), workers=1)
    urls = ["data:;base64," + base64.b64encode(data).decode() for data, _ in PICTURES]
    decoded = [
        await load(loader, url, controls)
        for _ in range(2)
        for url, (_, controls) in zip(urls, PICTURES, strict=True)
    ]
    await loader.close()
    for image, (data, controls) in zip(decoded, PICTURES + PICTURES, strict=True):
        size = image.plan.height, image.plan.width
        whole = decode_image(data, at_least=size if controls.draft else None)
        np.testing.assert_array_equal(image.pixels, resize(whole, *size))


def test_a_buffer_is_used_where_it_fits() -> None:
    data = jpeg(300, 200, 7)
    buffer = np.zeros(300 * 200 * 3, np.uint8)
    pixels = decode_image(data, buffer=buffer)
    assert np.shares_memory(pixels, buffer)
    np.testing.assert_array_equal(pixels, decode_image(data))


@pytest.mark.parametrize("size", [1, 3 * 4000 * 3000])
def test_a_thread_keeps_its_buffer(size: int) -> None:
    buffer = ThreadBuffer()
    first = buffer.get(size)
    assert first is not None
    assert first.size == size
    again = buffer.get(size)
    assert again is not None
    assert np.shares_memory(first, again)


def test_a_thread_keeps_no_huge_buffer() -> None:
    assert ThreadBuffer().get(2**30) is None
