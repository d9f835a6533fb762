"""Images that cost more than the limits grant, or break off: refused, and before they are decoded.

Every limit is set below what an ordinary file needs. Decoders have no such limits of their own;
what they did with files made to exceed them is said in `saccade.media.decode.image_limits`.
"""

import io
from collections.abc import Callable

import pytest
import simplejpeg
from media_samples import as_url
from PIL import Image, ImageFile, PngImagePlugin, WebPImagePlugin
from real_files import HEIGHT, WIDTH, encoded, real_images

from saccade.media.controls import ImageControls, VideoControls
from saccade.media.decode.image import decode_image, read_header
from saccade.media.decode.image_limits import has_many_scans, png_chunks
from saccade.media.errors import DecodeError, LimitError, MediaError
from saccade.media.fetch.fetcher import FetchPolicy
from saccade.media.limits import ImageLimits, MediaLimits
from saccade.media.loader import MediaLoader
from saccade.media.planning.plan import PixelLimits, VisionGeometry

IMAGES = real_images()
PNGS = sorted(name for name in IMAGES if name.startswith("png"))


@pytest.fixture
def nothing_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever decodes a pixel fails."""

    def decode(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    monkeypatch.setattr(WebPImagePlugin.WebPImageFile, "load", decode)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", decode)


def least(passes: Callable[[int], object]) -> int:
    """The lowest limit that a file passes under; the refusal one below it is a DecodeError."""
    most = 0
    while True:
        try:
            passes(most)
        except DecodeError:
            most += 1
        else:
            return most


@pytest.mark.usefixtures("nothing_decodes")
@pytest.mark.parametrize("name", IMAGES)
def test_pixels_are_counted_before_any_is_decoded(name: str) -> None:
    header = read_header(IMAGES[name], ImageLimits(max_pixels=WIDTH * HEIGHT))
    assert header.width * header.height == WIDTH * HEIGHT
    for read in (read_header, decode_image):
        with pytest.raises(LimitError, match=f"the limit is {WIDTH * HEIGHT - 1}") as caught:
            read(IMAGES[name], ImageLimits(max_pixels=WIDTH * HEIGHT - 1))
        assert caught.value.status == 413


def test_a_limit_of_pils_own_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """PIL refuses at twice its setting, of which it warns only."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", WIDTH * HEIGHT // 2 - 1)
    with pytest.raises(LimitError, match="pixels"):
        read_header(IMAGES["png"])


def test_text_that_pil_finds_too_long_is_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """PIL stops to unpack a chunk of text, of any kind and size, beyond its own limit."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "ordinary words", zip=True)
    data = encoded(Image.new("RGB", (8, 8)), "PNG", pnginfo=text)
    assert read_header(data).width == 8
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 5)
    with pytest.raises(DecodeError, match="header of the image is damaged"):
        read_header(data)


def test_an_image_without_pixels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for size in ((0, 8), (8, 0)):
        monkeypatch.setattr(Image, "open", lambda *_, size=size, **__: Image.new("RGB", size))
        with pytest.raises(DecodeError, match="no pixels"):
            read_header(IMAGES["png"])


def test_only_the_first_frame_is_decoded() -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue", "green")]
    for kind in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        with Image.open(io.BytesIO(data)) as image:
            assert getattr(image, "n_frames", 1) == 3
        assert (decode_image(data) == (255, 0, 0)).all()


def with_scans(count: int) -> bytes:
    """As much of a progressive JPEG as the count looks at."""
    frame = b"\xff\xc2\x00\x0b\x08\x00\x08\x00\x08\x01\x01\x11\x00"
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00" + b"data \xff\x00 \xff\xd3 more"
    return b"\xff\xd8" + frame + scan * count + b"\xff\xd9" + scan


def test_scans_are_counted_to_the_end_marker() -> None:
    assert has_many_scans(with_scans(3), 3)
    with pytest.raises(DecodeError, match="more than 2 scans"):
        has_many_scans(with_scans(3), 2)
    assert not has_many_scans(IMAGES["jpeg"], 0)
    # A thumbnail or a comment that holds scans does not count.
    comment = b"\xff\xfe\x00\x0a" + b"\xff\xda" * 4
    assert not has_many_scans(IMAGES["jpeg"][:2] + comment + IMAGES["jpeg"][2:], 0)


@pytest.mark.usefixtures("nothing_decodes")
def test_a_jpeg_of_many_scans_is_refused() -> None:
    data = IMAGES["jpeg-progressive"]
    scans = least(lambda most: read_header(data, ImageLimits(max_jpeg_scans=most)))
    assert scans == least(lambda most: has_many_scans(data, most)) > 5
    for read in (read_header, decode_image):
        with pytest.raises(DecodeError, match=f"more than {scans - 1} scans"):
            read(data, ImageLimits(max_jpeg_scans=scans - 1))


@pytest.mark.usefixtures("nothing_decodes")
@pytest.mark.parametrize("name", PNGS)
def test_a_png_of_many_chunks_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before PIL goes through them."""
    data = IMAGES[name]
    chunks = len(list(png_chunks(data, 100)))
    assert chunks >= 3
    assert read_header(data, ImageLimits(max_png_chunks=chunks)).width == WIDTH
    monkeypatch.setattr(Image, "open", None)
    for read in (read_header, decode_image):
        with pytest.raises(DecodeError, match=f"more than {chunks - 1} chunks"):
            read(data, ImageLimits(max_png_chunks=chunks - 1))


@pytest.mark.usefixtures("nothing_decodes")
@pytest.mark.parametrize("name", IMAGES)
def test_an_image_of_many_pieces_is_refused(name: str) -> None:
    reads = least(lambda most: read_header(IMAGES[name], ImageLimits(max_reads=most)))
    assert reads > 0
    for read in (read_header, decode_image):
        with pytest.raises(DecodeError, match=f"more than {reads - 1} pieces"):
            read(IMAGES[name], ImageLimits(max_reads=reads - 1))


def test_every_comment_is_a_piece() -> None:
    def reads(kind: str, **options: object) -> int:
        data = encoded(Image.new("RGB", (8, 8)), kind, **options)
        return least(lambda most: read_header(data, ImageLimits(max_reads=most)))

    for kind in ("JPEG", "GIF"):
        assert reads(kind, comment=b"ordinary words") > reads(kind), kind


@pytest.mark.usefixtures("nothing_decodes")
def test_what_is_decoded_is_counted_again() -> None:
    """A header that was read before does not stand for the file."""
    header = read_header(IMAGES["png"])
    with pytest.raises(LimitError):
        decode_image(IMAGES["png"], ImageLimits(max_pixels=WIDTH * HEIGHT - 1), header=header)


@pytest.mark.usefixtures("nothing_decodes")
@pytest.mark.parametrize(
    ("name", "limits", "error"),
    [
        ("png", ImageLimits(max_pixels=WIDTH * HEIGHT - 1), LimitError),
        ("png", ImageLimits(max_png_chunks=1), DecodeError),
        ("jpeg-progressive", ImageLimits(max_jpeg_scans=1), DecodeError),
        ("gif", ImageLimits(max_reads=1), DecodeError),
    ],
)
async def test_a_loader_is_under_its_limits(
    name: str, limits: ImageLimits, error: type[MediaError]
) -> None:
    """For images and for every frame of a list."""
    small = as_url(encoded(Image.new("L", (8, 8)), "BMP"), "image/bmp")
    url = as_url(IMAGES[name], "")
    media_limits = MediaLimits(image=limits)
    loader = MediaLoader(VisionGeometry(), PixelLimits(), FetchPolicy(), 1, media_limits)
    try:
        with pytest.raises(error):
            await loader.plan(url, ImageControls())
        with pytest.raises(error):
            await loader.plan([small, url], VideoControls())
    finally:
        await loader.close()


def test_several_scans_cost_more_room() -> None:
    plain, progressive = (read_header(IMAGES[n]) for n in ("jpeg", "jpeg-progressive"))
    assert progressive.decoding_bytes - plain.decoding_bytes == 64 * 48 * 2 * 3


async def test_a_small_first_frame_does_not_hide_large_ones() -> None:
    """Frames of a list may differ in size; as many are decoded at once as there are threads."""
    small, large = (encoded(Image.new("RGB", (side, side)), "PNG") for side in (56, 560))
    urls = [as_url(data, "image/png") for data in (small, large, small, large, large)]
    controls = VideoControls(resized_width=112, resized_height=112)
    loader = MediaLoader(VisionGeometry(), PixelLimits(), FetchPolicy(), workers=2)
    try:
        planned = await loader.plan(urls, controls)
        assert (planned.plan.source_width, planned.plan.source_height) == (56, 56)
        assert planned.decoding_bytes >= 2 * read_header(large).decoding_bytes
        assert len((await loader.decode(planned)).frames) == 6
    finally:
        await loader.close()
