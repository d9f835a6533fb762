"""Pictures: upright, on white, bit-equal to the reference's resize; bad bytes are told apart."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from media_samples import noise
from PIL import Image, ImageOps

from saccade.media.decode.image import decode_image, read_header, to_rgb
from saccade.media.decode.resize import resize
from saccade.media.errors import DecodeError, LimitError, MediaError
from saccade.media.limits import ImageLimits

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")


def image_size(data: bytes) -> tuple[int, int]:
    header = read_header(data)
    return header.width, header.height


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    output = io.BytesIO()
    image.save(output, kind, **options)
    return output.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_decodes(kind: str) -> None:
    flat = np.zeros((45, 61, 3), np.uint8)
    flat[:, :30] = (200, 40, 90)
    data = encoded(Image.fromarray(flat), kind)
    assert image_size(data) == (61, 45)
    decoded = decode_image(data)
    assert decoded.shape == (45, 61, 3)
    assert decoded.dtype == np.uint8
    difference = np.abs(decoded.astype(int) - flat)[:, [5, 20, 50]]
    assert difference.max() <= (0 if kind in ("PNG", "BMP") else 8)


def test_plain_pictures_are_what_the_reference_reads(
    reference: Callable[..., Any], tmp_path: Path
) -> None:
    files = {}
    for kind in FORMATS:
        files[kind] = str(tmp_path / f"picture.{kind.lower()}")
        Image.fromarray(noise(90, 120)).save(files[kind])
    for mode in ("L", "1", "P", "CMYK", "YCbCr", "RGBA"):
        kind = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
        files[mode] = str(tmp_path / f"{mode}.{kind.lower()}")
        Image.fromarray(noise(40, 50, 4), "RGBA").convert("RGB").convert(mode).save(files[mode])
    Image.fromarray(noise(40, 50, 4), "RGBA").save(files["RGBA"])
    output = tmp_path / "answer.npz"
    assert reference("fetch_image", files=files, output=str(output))
    with np.load(output) as answers:
        for name, path in files.items():
            ours = decode_image(Path(path).read_bytes())
            np.testing.assert_array_equal(ours, answers[name], err_msg=name)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(kind: str, orientation: int) -> None:
    corner = np.zeros((48, 80, 3), np.uint8)
    corner[:24, :40] = (250, 0, 0)
    corner[:24, 40:] = (0, 250, 0)
    corner[24:, :40] = (0, 0, 250)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {} if kind == "PNG" else {"quality": 95}
    data = encoded(Image.fromarray(corner), kind, exif=exif, **options)
    stored = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    # Where the stored first row and column lie in the upright picture (EXIF 2.32, table 6).
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored),
    }[orientation]
    ours = decode_image(data)
    np.testing.assert_array_equal(ours, upright)
    assert image_size(data) == (ours.shape[1], ours.shape[0])
    assert (ours.shape[0] > ours.shape[1]) == (orientation >= 5)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpegs_are_bit_equal_to_pils(mode: str, subsampling: int, progressive: bool) -> None:
    for height, width in ((1, 1), (16, 16), (17, 33), (301, 202)):
        picture = Image.fromarray(noise(height, width)).convert(mode)
        data = encoded(picture, "JPEG", subsampling=subsampling, progressive=progressive)
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        np.testing.assert_array_equal(decode_image(data), expected)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_draft_is_smaller_and_shows_the_same(orientation: int) -> None:
    smooth = Image.fromarray(noise(40, 60)).resize((1200, 800), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(smooth, "JPEG", quality=95, exif=exif)
    whole = decode_image(data)
    height, width = whole.shape[:2]
    for at_least, eighths in (((280, 392), 3), ((200, 200), 2), ((799, 799), 8), ((28, 28), 1)):
        draft = decode_image(data, at_least=at_least if orientation == 1 else at_least[::-1])
        assert draft.shape == (height * eighths // 8, width * eighths // 8, 3)
        exact, close = (resize(pixels, 84, 84).astype(int) for pixels in (whole, draft))
        assert np.abs(exact - close).mean() < 3
    png = encoded(smooth, "PNG")
    assert decode_image(png, at_least=(28, 28)).shape == (800, 1200, 3)


def test_png_orientation_behind_the_pixels() -> None:
    """PNG allows its eXIf chunk after IDAT: header and decode must see the same orientation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = encoded(Image.fromarray(noise(20, 30)), "PNG")
    end = png_chunk(b"IEND", b"")
    assert plain.endswith(end)
    data = plain[: -len(end)] + png_chunk(b"eXIf", exif.tobytes()[6:]) + end
    with Image.open(io.BytesIO(data)) as image:
        assert np.asarray(ImageOps.exif_transpose(image)).shape == (30, 20, 3)
    assert image_size(data) == (20, 30)
    assert decode_image(data).shape == (30, 20, 3)


def test_unreadable_or_absurd_exif_is_upright() -> None:
    picture = Image.fromarray(noise(20, 30))
    absurd = Image.Exif()
    absurd[0x0112] = 77
    for exif in (b"Exif\0\0", b"nothing at all", absurd.tobytes()):
        data = encoded(picture, "JPEG", exif=exif)
        assert image_size(data) == (30, 20)
        assert decode_image(data).shape == (20, 30, 3)


def test_exif_that_pil_stumbles_over_is_upright(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(noise(20, 30)), "JPEG")
    for outcome in ({0x0112: "sideways"}, {0x0112: 6.0}, OSError("damaged")):
        found = Mock(side_effect=[outcome])
        monkeypatch.setattr(Image.Image, "getexif", lambda _, found=found: found())
        assert image_size(data) == (30, 20)
        found.assert_called_once()


def transparent_left(mode: str) -> Image.Image:
    """Left half invisible over black, right half opaque (10, 20, 30), or grey 20."""
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:, 8:] = (10, 20, 30, 255)
    image = Image.fromarray(pixels, "RGBA")
    if mode == "LA":
        grey = np.zeros((16, 16, 2), np.uint8)
        grey[:, 8:] = (20, 255)
        return Image.fromarray(grey, "LA")
    return image


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGBA"), ("WEBP", "RGBA"), ("PNG", "LA"), ("GIF", "RGBA")]
)
def test_transparency_is_white(kind: str, mode: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = decode_image(encoded(transparent_left(mode), kind, **options))
    assert (pixels[:, :8] == 255).all()
    expected = (20, 20, 20) if mode == "LA" else (10, 20, 30)
    assert np.abs(pixels[:, 8:].astype(int) - expected).max() <= 4


def test_palette_and_colour_key_transparency_is_white() -> None:
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    palette.paste(1, (4, 0, 8, 8))
    pixels = decode_image(encoded(palette, "PNG", transparency=0))
    assert (pixels[:, :4] == 255).all()
    assert (pixels[:, 4:] == (200, 100, 50)).all()
    keyed = Image.fromarray(np.full((8, 8, 3), 7, np.uint8))
    keyed.paste((9, 9, 9), (4, 0, 8, 8))
    pixels = decode_image(encoded(keyed, "PNG", transparency=(7, 7, 7)))
    assert (pixels[:, :4] == 255).all()
    assert (pixels[:, 4:] == 9).all()


def test_half_transparency_blends() -> None:
    half = Image.new("RGBA", (4, 4), (0, 100, 200, 128))
    assert np.abs(to_rgb(half)[0, 0].astype(int) - (127, 177, 227)).max() <= 1


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65_535, 256).astype(np.uint16).reshape(16, 16)
    data = encoded(Image.fromarray(ramp), "PNG")
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "I;16"
    pixels = decode_image(data)
    np.testing.assert_array_equal(pixels[:, :, 1], np.round(ramp / 257).astype(np.uint8))
    assert pixels.shape == (16, 16, 3)


def test_cmyk_keeps_its_colours() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    pixels = decode_image(encoded(red, "JPEG", quality=95))
    assert np.abs(pixels.astype(int) - (255, 0, 0)).max() < 8


def test_other_pil_modes() -> None:
    for mode in ("I", "F", "L", "1", "P", "HSV", "LAB", "La", "RGBa", "PA", "CMYK", "YCbCr"):
        pixels = to_rgb(Image.new(mode, (5, 4)))
        assert pixels.shape == (4, 5, 3)
        assert pixels.dtype == np.uint8


def test_the_limit_of_pils_own_is_left_alone() -> None:
    before = Image.MAX_IMAGE_PIXELS
    data = encoded(Image.fromarray(noise(30, 40)), "PNG")
    for read in (read_header, decode_image):
        with pytest.raises(LimitError):
            read(data, ImageLimits(max_pixels=1199))
        assert before == Image.MAX_IMAGE_PIXELS


def assert_clean(error: MediaError) -> None:
    """Nothing of the inside of the process may reach the caller."""
    for leak in ("0x", "<_io", "BytesIO", "object at", "Traceback"):
        assert leak not in error.message


BAD_BYTES = {
    "empty": b"",
    "text": b"<html>not a picture</html>",
    "zeros": b"\0" * 4096,
    "jpeg magic": b"\xff\xd8\xff\xe0",
    "png magic": b"\x89PNG\r\n\x1a\n",
    "gif magic": b"GIF89a",
    "bmp magic": b"BM" + bytes(60),
    "webp magic": b"RIFF\x10\0\0\0WEBPVP8 ",
    "tiff": encoded(Image.new("RGB", (8, 8)), "TIFF"),
    "ico": encoded(Image.new("RGB", (16, 16)), "ICO"),
    "ppm": encoded(Image.new("RGB", (8, 8)), "PPM"),
    "eps": encoded(Image.new("RGB", (8, 8)), "EPS"),
}


@pytest.mark.parametrize("name", BAD_BYTES)
def test_other_bytes_are_refused(name: str) -> None:
    for read in (image_size, decode_image):
        with pytest.raises(DecodeError) as caught:
            read(BAD_BYTES[name])
        assert_clean(caught.value)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_pictures_are_refused(kind: str, share: float) -> None:
    data = encoded(Image.fromarray(noise(200, 200)), kind)
    with pytest.raises(DecodeError) as caught:
        decode_image(data[: int(len(data) * share)])
    assert_clean(caught.value)
