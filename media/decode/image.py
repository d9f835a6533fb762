"""Decodes images to upright RGB rasters with libjpeg-turbo and Pillow.

JPEG, PNG, WebP, GIF (first frame) and BMP. The size is read from the header and checked before
anything is decoded. No process-wide state of PIL is read or changed.
"""

from typing import cast

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from saccade.media.decode.formats import name_format
from saccade.media.decode.image_limits import CountedReader, has_many_scans, png_chunks
from saccade.media.decode.png import SIGNATURE
from saccade.media.errors import DecodeError, LimitError, MediaError
from saccade.media.limits import MAX_IMAGE_PIXELS, ImageLimits
from saccade.media.types import SIDEWAYS, ImageHeader, Pixels

_FORMATS = (
    JpegImagePlugin.JpegImageFile.format,
    PngImagePlugin.PngImageFile.format,
    WebPImagePlugin.WebPImageFile.format,
    GifImagePlugin.GifImageFile.format,
    BmpImagePlugin.BmpImageFile.format,
)
_TAKEN = tuple(f"a {kind} image" for kind in ("JPEG", "PNG", "WebP", "GIF", "BMP"))

_DEFAULT_LIMITS = ImageLimits()

_JPEGS = ("JPEG", "MPO")
# PIL's raw mode of a PNG -> bits of a channel, and what it multiplies them with.
_PNG_DEPTHS = {"1": (1, 1), "L;2": (2, 85), "L;4": (4, 17), "I;16B": (16, 1), "RGB;16B": (16, 1)}


def read_header(data: bytes, limits: ImageLimits = _DEFAULT_LIMITS) -> ImageHeader:
    """Size and cost of an image, from its header alone.

    Raises:
        DecodeError: not an image of a supported format, a damaged header, or of more parts than
            ``limits`` grant.
        LimitError: more pixels than they grant.
    """
    with _open(data, limits) as image:
        width, height = image.size
        orientation = _orientation(image, data, limits)
        if orientation in SIDEWAYS:
            width, height = height, width
        plain_jpeg = image.format in _JPEGS and image.mode in ("L", "RGB")
        # How much memory decoding takes at most. A plain JPEG: 3, or 6 where it has to be turned,
        # but 13 where it is damaged and PIL has to try. Others, measured: 10 for RGB in PNG, 12 for
        # RGBA, 16 for grey with alpha, 24 for WebP with alpha. PIL takes 4 for a pixel of any
        # colours, twice to lay it on white, and WebP 12 for its canvas.
        bytes_per_pixel = 14 if plain_jpeg else 24
        # Coefficients have 16 bits, and every channel its own.
        if image.format in _JPEGS and has_many_scans(data, limits.max_jpeg_scans):
            bytes_per_pixel += 2 * len(image.getbands())
        return ImageHeader(width, height, orientation, width * height * bytes_per_pixel, plain_jpeg)


def decode_image(
    data: bytes,
    limits: ImageLimits = _DEFAULT_LIMITS,
    at_least: tuple[int, int] | None = None,
    buffer: Pixels | None = None,
    header: ImageHeader | None = None,
) -> Pixels:
    """The upright image as uint8 RGB [height, width, 3], on white where it is transparent.

    Args:
        at_least: (height, width) below which a JPEG may not be shrunk while it is decoded, which
            skips most of the work. None: every image is decoded whole.
        buffer: three bytes a pixel that the result may lie in: the caller is done with the result
            before it uses them again. Memory fresh from the system costs time for every page.
        header: of these bytes, where it has been read; else it is read here.

    Raises:
        DecodeError, LimitError: as read_header; also DecodeError for one that is damaged or cut
            short.
    """
    header = header or read_header(data, limits)
    if at_least is not None and header.sideways:
        at_least = at_least[1], at_least[0]
    try:
        pixels = _decode_jpeg(data, at_least, buffer) if header.plain_jpeg else None
        if pixels is None:
            with _open(data, limits) as image:
                clear = _transparent(image, data, limits)
                pixels = to_rgb(image)
                if clear is not None:
                    pixels[clear] = 255
        return _upright(pixels, header.orientation)
    except MediaError:
        raise
    except Exception as error:  # whatever a decoder stumbles over, it is the file's fault
        raise DecodeError(
            f"{name_format(data)} that is damaged, incomplete or of a kind that is not supported"
        ) from error


def _decode_jpeg(
    data: bytes, at_least: tuple[int, int] | None, buffer: Pixels | None
) -> Pixels | None:
    """The pixels of a plain JPEG straight from libjpeg-turbo, or None where PIL has to decode.

    Equal to PIL's to the bit, without PIL's own copy of the pixels. PIL keeps what is not grey or
    YCbCr, and what is damaged: it knows what can be forgiven.
    """
    try:
        if at_least is None:
            return cast(Pixels, simplejpeg.decode_jpeg(data, buffer=buffer))
        height, width = at_least
        return cast(
            Pixels,
            simplejpeg.decode_jpeg(
                data, min_height=height, min_width=width, min_factor=2, buffer=buffer
            ),
        )
    except ValueError:
        return None


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """[height, width, 3] pixels as EXIF means them to be seen (EXIF 2.32, tag 0x0112)."""
    if orientation in SIDEWAYS:
        pixels = pixels.transpose(1, 0, 2)
    down = -1 if orientation in (3, 4, 7, 8) else 1
    across = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(pixels[::down, ::across])


def _transparent(
    image: Image.Image, data: bytes, limits: ImageLimits
) -> npt.NDArray[np.bool_] | None:
    """Loads an image. [height, width]: where it is transparent and PIL does not tell.

    A GIF, around a first frame that is smaller. A PNG, where its colour key says so:

    PIL knows the key as the file has it, in as many bits as the file's, and compares it with
    pixels that it has brought to 8 (13.0). So the key is taken off here. None: there is none.
    """
    if isinstance(image, GifImagePlugin.GifImageFile) and image.tile:
        left, top, right, bottom = image.tile[0].extents or (0, 0, *image.size)
        around = np.ones((image.height, image.width), np.bool_)
        around[top:bottom, left:right] = False
        image.load()
        return around if around.any() else None
    tiles = image.tile if isinstance(image, PngImagePlugin.PngImageFile) else []
    raw = str(tiles[0].args) if tiles else None
    image.load()
    if image.mode == "P" or raw is None or (key := image.info.pop("transparency", None)) is None:
        return None
    bits, step = _PNG_DEPTHS.get(raw, (8, 1))
    colour = np.array(key) % 2**bits  # PNG, 11.3.2.1: higher bits are no part of it
    if raw != "RGB;16B":
        return _equals(image, colour * step)
    # PIL has the high bytes of such an image, or, told that they were the other way round, the low.
    clear = _equals(image, colour // 256)
    with _open(data, limits) as low:
        assert isinstance(low, PngImagePlugin.PngImageFile)
        low.tile = [low.tile[0]._replace(args="RGB;16L")]
        return clear & _equals(low, colour % 256)


def _equals(image: Image.Image, colour: npt.NDArray[np.int_]) -> npt.NDArray[np.bool_]:
    same = np.equal(np.asarray(image), colour)
    return np.all(same, axis=2) if same.ndim == 3 else same


def to_rgb(image: Image.Image) -> Pixels:
    """Any PIL image as uint8 RGB [height, width, 3].

    Transparency (an alpha channel, a palette entry, an 8-bit colour key) is laid on white. 16-bit
    grey is scaled to 8 bits; other modes convert as PIL does. Orientation is left alone.
    """
    if image.format == "BMP" and image.mode == "RGBA" and not image.getchannel("A").getbbox():
        # Programs that keep no transparency leave zeros in what the header calls alpha: browsers
        # take such an image as opaque.
        image = image.convert("RGB")
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        grey = ((wide * 255 + 32_767) // 65_535).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("La", "LA", "RGBa", "RGBA", "PA") or "transparency" in image.info:
        if image.mode == "La":
            image = image.convert("LA")
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image.getchannel("A"))
        image = white
    elif image.mode != "RGB":
        if image.mode in ("I", "F"):
            image = image.convert("L")
        image = image.convert("RGB")
    return np.array(image)  # a copy: torch wants memory it may write to


def _open(data: bytes, limits: ImageLimits) -> Image.Image:
    if not data:
        raise DecodeError("the image is empty")
    # PIL would go through all of them first.
    if data.startswith(SIGNATURE):
        for _ in png_chunks(data, limits.max_png_chunks):
            pass
    try:
        image = Image.open(CountedReader(data, limits.max_reads), formats=_FORMATS)
    except UnidentifiedImageError:
        # PIL's text holds the repr of the buffer, so nothing of it is passed on.
        kind = name_format(data)
        if kind in _TAKEN:
            raise DecodeError(f"{kind} with a damaged header") from None
        raise DecodeError(f"not a JPEG, PNG, WebP, GIF or BMP image, but {kind}") from None
    except Image.DecompressionBombError:
        raise LimitError(f"the image has more than {MAX_IMAGE_PIXELS} pixels") from None
    except DecodeError:
        raise
    except Exception as error:
        raise DecodeError(
            "the header of the image is damaged, or of a kind that is not supported"
        ) from error
    width, height = image.size
    if width * height > limits.max_pixels:
        image.close()
        raise LimitError(
            f"the image has {width} x {height} pixels; the limit is {limits.max_pixels}"
        )
    if width < 1 or height < 1:
        image.close()
        raise DecodeError("the image has no pixels")
    return image


def _orientation(image: Image.Image, data: bytes, limits: ImageLimits) -> int:
    """EXIF orientation, 1 where there is none or it cannot be read. Decodes no pixels."""
    if image.format == "PNG" and "exif" not in image.info:
        exif = _png_exif(data, limits)
        if exif is not None:
            image.info["exif"] = exif
    try:
        # The base class's method: PNG's own decodes the whole image to look behind it.
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # a camera's broken EXIF block does not make its image unreadable
        return 1
    return value if isinstance(value, int) else 1


def _png_exif(data: bytes, limits: ImageLimits) -> bytes | None:
    """The eXIf chunk wherever it stands: PNG allows it behind the pixels."""
    for kind, start, stop in png_chunks(data, limits.max_png_chunks):
        if kind == b"eXIf":
            return b"Exif\0\0" + data[start:stop]
    return None
