"""Images as people send them: transparency that few programs write, formats that are not taken."""

import base64
import io
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saccade.media.decode.formats import name_format
from saccade.media.decode.image import decode_image, read_header
from saccade.media.errors import DecodeError

MEDIA = Path(__file__).parents[2] / "demo" / "media"
TAKEN = "a JPEG, PNG, WebP, GIF or BMP image"


def bmp(header, pixels, masks):
    """A BMP of 32 bits, as wide as there are pixels, with masks of red, green, blue and alpha."""
    fields = header, len(pixels), 1, 1, 32, 3, 4 * len(pixels), 2835, 2835, 0, 0
    body = struct.pack("<IiiHHIIiiII", *fields) + struct.pack("<4I", *masks)
    body = body.ljust(header, b"\0") + bytes(np.array(pixels, "<u4"))
    return b"BM" + struct.pack("<IHHI", 14 + len(body), 0, 0, 14 + header) + body


MASKS = {"BGRA": (0xFF0000, 0xFF00, 0xFF, 0xFF000000), "RGBA": (0xFF, 0xFF00, 0xFF0000, 0xFF000000)}


@pytest.mark.parametrize("header", [56, 108, 124])
@pytest.mark.parametrize("order", MASKS)
def test_bmp_whose_alpha_is_all_zero(header, order):
    red, green, *_ = (mask & 0xC8C8C8C8 for mask in MASKS[order])
    np.testing.assert_array_equal(
        decode_image(bmp(header, [red, green], MASKS[order])), [[[200, 0, 0], [0, 200, 0]]]
    )
    # Alpha that is not zero everywhere is meant.
    pixels = decode_image(bmp(header, [red, green | 0xFF000000], MASKS[order]))
    np.testing.assert_array_equal(pixels, [[[255, 255, 255], [0, 200, 0]]])


def test_other_formats_may_be_all_transparent():
    for kind in ("PNG", "WEBP", "GIF"):
        output = io.BytesIO()
        Image.new("RGBA", (4, 4), (10, 20, 30, 0)).save(output, kind)
        assert (decode_image(output.getvalue()) == 255).all(), kind


def test_gif_around_a_first_frame_that_is_smaller():
    output = io.BytesIO()
    Image.new("RGB", (2, 1), (200, 0, 0)).save(output, "GIF")
    data = bytearray(output.getvalue())
    data[6:10] = struct.pack("<2H", 4, 3)  # the canvas
    pixels = decode_image(bytes(data))
    assert pixels.shape == (3, 4, 3)
    np.testing.assert_array_equal(pixels[0, :2], [[200, 0, 0]] * 2)
    assert (pixels[0, 2:] == 255).all()
    assert (pixels[1:] == 255).all()


def png(depth, colour_type, row, key, interlaced=False):
    """A PNG one pixel high; ``key`` are the samples of its colour key."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    bits = "".join(f"{sample:0{depth}b}" for sample in row)
    packed = int(bits.ljust(-len(bits) // 8 * -8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    width = len(row) // len(key)
    header = struct.pack(">IIBBBBB", width, 1, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            chunk(b"IHDR", header),
            chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)),
            chunk(b"IDAT", zlib.compress(b"\0" + packed)),
            chunk(b"IEND", b""),
        )
    )


@pytest.mark.parametrize(
    ("depth", "row", "key", "grey"),
    [
        (1, [0, 1, 0], 0, [255, 255, 255]),
        (2, [0, 1, 2, 3], 1, [0, 255, 170, 255]),
        (4, [0, 1, 9, 15], 9, [0, 17, 255, 255]),
        (8, [0, 1, 9, 200], 9, [0, 1, 255, 200]),
        (8, [0, 1, 9, 200], 0x1200 + 9, [0, 1, 255, 200]),  # higher bits are no part of it
        (16, [0, 0x0901, 0x0902, 0x8080], 0x0901, [0, 255, 9, 128]),
    ],
)
def test_grey_png_with_a_colour_key(depth, row, key, grey):
    pixels = decode_image(png(depth, 0, row, [key]))
    np.testing.assert_array_equal(pixels, np.repeat(np.array(grey), 3).reshape(1, -1, 3))


@pytest.mark.parametrize("depth", [8, 16])
def test_rgb_png_with_a_colour_key(depth):
    low = 0 if depth == 8 else 0x0100
    seven = [low * 7 + each for each in (7, 8, 9)]
    near = [low * 7 + each for each in (7, 8, 10)]  # of 16 bits, the same in the high ones
    pixels = decode_image(png(depth, 2, [1, 2, 3, *seven, *near], seven))
    last = [7, 8, 10] if depth == 8 else [7, 7, 7]
    first = [1, 2, 3] if depth == 8 else [0, 0, 0]
    np.testing.assert_array_equal(pixels, [[first, [255] * 3, last]])


def saved(kind, **options):
    output = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(output, kind, **options)
    return output.getvalue()


def boxed(brand, *compatible):
    """The first box of an ISO file."""
    body = b"ftyp" + brand + bytes(4) + b"".join(compatible)
    return struct.pack(">I", len(body) + 4) + body + bytes(100)


REFUSED = {
    "AVIF": lambda: saved("AVIF"),
    "TIFF": lambda: saved("TIFF"),
    "big-endian TIFF": lambda: b"MM\0*" + bytes(100),
    "HEIC": lambda: boxed(b"heic", b"mif1", b"heic"),
    "HEIC under a general brand": lambda: boxed(b"mif1", b"heic"),
    "AVIF under a general brand": lambda: boxed(b"mif1", b"avif"),
    "JPEG XL": lambda: b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100),
    "a bare JPEG XL": lambda: b"\xff\x0a" + bytes(100),
    "JPEG 2000": lambda: saved("JPEG2000"),
    "Photoshop": lambda: b"8BPS\0\1" + bytes(100),
    "SVG": lambda: b'\xef\xbb\xbf<?xml version="1.0"?>\n<svg xmlns="x"></svg>',
    "a bare SVG": lambda: b"<svg></svg>",
    "PDF": lambda: saved("PDF"),
    "EPS": lambda: saved("EPS"),
    "ICO": lambda: saved("ICO"),
    "PPM": lambda: saved("PPM"),
    "TGA": lambda: saved("TGA"),
    "DDS": lambda: saved("DDS"),
    "PCX": lambda: saved("PCX"),
    "camera RAW (CR3)": lambda: boxed(b"crx ", b"isom"),
    "camera RAW": lambda: b"FUJIFILMCCD-RAW 0201" + bytes(100),
    "camera RAW of Canon": lambda: b"II*\0\x10\0\0\0CR\2\0" + bytes(100),
    "MP4": lambda: (MEDIA / "bunny.mp4").read_bytes(),
    "BMP without its file header": lambda: saved("BMP")[14:],
    "JPEG-LS": lambda: b"\xff\xd8\xff\xf7" + bytes(100),
    "XPM": lambda: b"/* XPM */\nstatic char *a[] = {",
    "SGI": lambda: saved("SGI"),
    "compressed archive": lambda: b"7z\xbc\xaf\x27\x1c" + bytes(100),
    "NumPy": lambda: b"\x93NUMPY\1\0" + bytes(100),
    "HTML": lambda: b"\n<!DOCTYPE html><html><body>404</body></html>",
    "JSON": lambda: b'{"error": "not found"}',
    "base64": lambda: b"iVBORw0KGgoAAAANSUhEUgAA",
    "base64 of an MP4": lambda: base64.b64encode((MEDIA / "bunny.mp4").read_bytes()[:99]),
    "animated cursor": lambda: b"RIFF\0\0\0\0ACON" + bytes(100),
    "IFF": lambda: b"FORM\0\0\0\0ILBM" + bytes(100),
    "JPEG XS": lambda: b"\xff\x10\xff\x50" + bytes(100),
    "DPX": lambda: b"SDPX\0" + bytes(100),
    "RealMedia": lambda: b".RMF\0\0\0\x12" + bytes(100),
    "Flash": lambda: b"CWS\x09" + bytes(range(1, 100)),
    "NUT": lambda: b"nut/multimedia container\0" + bytes(100),
    "raw DV": lambda: b"\x1f\7\0\x3f" + bytes(100),
    "raw H.264": lambda: b"\0\0\0\1\x09\xf0\0\0\0\1\x67" + bytes(100),
    "raw MPEG-1": lambda: b"\0\0\1\xb3\x14" + bytes(100),
    "playlist": lambda: b"#EXTM3U\n#EXT-X-VERSION:3\n",
    "RTF": lambda: b"{\\rtf1 text}",
    "pickle": lambda: pickle.dumps([1, 2]),
    "Git LFS": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "gzip": lambda: b"\x1f\x8b\x08" + bytes(100),
    "text": lambda: b"404 page not found",
    "zeros": lambda: bytes(100),
    "no known format": lambda: bytes(range(100)),
}
NAMES = {
    "big-endian TIFF": "TIFF",
    "HEIC under a general brand": "HEIC",
    "AVIF under a general brand": "AVIF",
    "a bare JPEG XL": "JPEG XL",
    "a bare SVG": "SVG",
    "base64 of an MP4": "base64",
    "camera RAW (CR3)": "camera RAW",
    "camera RAW of Canon": "camera RAW",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_the_format_that_came(name):
    with pytest.raises(DecodeError) as caught:
        read_header(REFUSED[name]())
    before, _, came = caught.value.message.partition(", but ")
    assert before == f"not {TAKEN}"
    assert NAMES.get(name, name) in came


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_a_damaged_header_is_told_by_its_format(kind):
    data = saved(kind)
    assert name_format(data).upper().split()[1] == kind
    with pytest.raises(DecodeError, match=r"damaged|no pixels") as caught:
        read_header(data[:14])
    assert "but" not in caught.value.message


def test_what_no_decoder_takes_is_told_by_its_format():
    arithmetic = saved("JPEG").replace(b"\xff\xc0", b"\xff\xcb")
    with pytest.raises(DecodeError, match="a JPEG image that is damaged, incomplete or of a kind"):
        decode_image(arithmetic)
