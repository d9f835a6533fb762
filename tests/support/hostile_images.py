"""Image files that lie, swell or never end. Names of the makers say what is wrong."""

import struct
import zlib

from hostile_samples import encoded, real_images
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# A hundred kilobytes that become a hundred megabytes.
SWELLING = zlib.compress(bytes(100_000_000), 9)
EMPTY_SCAN = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00\x00"


def chunk(kind: bytes, body: bytes) -> bytes:
    """One PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, pixels: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG that claims a size; ``pixels`` compressed, other chunks on either side of them."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return SIGNATURE + header + before + chunk(b"IDAT", pixels) + after + chunk(b"IEND", b"")


def pngs() -> dict[str, bytes]:
    small = zlib.compress(bytes(25 * 8))
    real = real_images()["png"]
    second = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    frames = chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))
    inside = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 8, 8, 0, 0, 1, 1, 0, 0))
    outside = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 60_000, 60_000, 0, 0, 1, 1, 0, 0))
    piece = chunk(b"fdAT", struct.pack(">I", 1) + small)
    return {
        "png-bomb": png(50_000, 50_000, SWELLING),
        "png-bomb-at-any-cap": png(2**31 - 1, 2**31 - 1, SWELLING),
        "png-claims-more-than-it-has": png(1990, 2000, small),
        "png-has-more-than-it-claims": png(1, 1, SWELLING),
        "png-of-no-width": png(0, 8, small),
        "png-second-header": png(8, 8, small, before=second),
        "png-second-header-behind": png(8, 8, small, after=second),
        "png-bit-depth-7": SIGNATURE
        + chunk(b"IHDR", b"\0\0\0\x08\0\0\0\x08\x07\2\0\0\0")
        + real[33:],
        "png-profile-bomb": png(8, 8, small, before=chunk(b"iCCP", b"x\0\0" + SWELLING)),
        "png-text-bomb": png(8, 8, small, before=chunk(b"zTXt", b"x\0\0" + SWELLING)),
        "png-text-bomb-behind": png(8, 8, small, after=chunk(b"zTXt", b"x\0\0" + SWELLING)),
        "png-unicode-bomb": png(8, 8, small, before=chunk(b"iTXt", b"x\0\1\0\0\0" + SWELLING)),
        "png-of-100000-chunks": png(8, 8, small, before=chunk(b"abCd", b"") * 100_000),
        "png-of-100000-chunks-behind": png(8, 8, small, after=chunk(b"abCd", b"") * 100_000),
        "png-chunk-longer-than-file": real[:33] + struct.pack(">I", 2**31 - 1) + real[37:],
        "png-of-2147483647-frames": png(8, 8, small, before=frames),
        "png-of-5000-frames": png(8, 8, small, frames, (inside + piece) * 5000),
        "png-frame-outside-its-picture": png(8, 8, small, frames + outside),
    }


def with_frame(jpeg: bytes, height: int, width: int) -> bytes:
    """A baseline JPEG whose frame header claims another size."""
    start = jpeg.index(b"\xff\xc0")
    return jpeg[: start + 5] + struct.pack(">HH", height, width) + jpeg[start + 9 :]


def with_exif(tiff: bytes) -> bytes:
    """A JPEG with these bytes as its EXIF block."""
    return encoded(Image.new("RGB", (32, 24), "navy"), "JPEG", exif=b"Exif\0\0" + tiff)


def jpegs() -> dict[str, bytes]:
    real = encoded(Image.new("RGB", (1600, 1200), (90, 20, 30)), "JPEG")
    progressive = encoded(Image.new("RGB", (1600, 1200), (90, 20, 30)), "JPEG", progressive=True)
    scan = real.index(b"\xff\xda")
    comment = b"\xff\xfe" + struct.pack(">H", 65_535) + b"\xff" * 65_533
    return {
        "jpeg-claims-65500-squared": with_frame(real, 65_500, 65_500),
        "jpeg-claims-more-than-it-has": with_frame(real, 1990, 2000),
        "jpeg-has-more-than-it-claims": with_frame(real, 8, 8),
        "jpeg-of-no-height": with_frame(real, 0, 1600),
        "jpeg-of-20000-scans": progressive[:-2] + EMPTY_SCAN * 20_000 + b"\xff\xd9",
        "jpeg-baseline-of-20000-scans": real[:scan] + EMPTY_SCAN * 20_000 + b"\xff\xd9",
        "jpeg-of-endless-comments": real[:2] + comment * 20 + real[2:],
        "jpeg-without-tables": real[:2] + real[real.index(b"\xff\xc0") :],
        "jpeg-of-headers-only": real[:scan],
        "jpeg-second-frame-header": real[:scan] + with_frame(real, 60_000, 60_000)[2:],
    }


def exifs() -> dict[str, bytes]:
    """EXIF blocks whose orientation, counts or links lie; the picture itself is sound."""

    def block(*entries: bytes, count: int | None = None, after: bytes = b"\0\0\0\0") -> bytes:
        number = len(entries) if count is None else count
        return b"MM\0*\0\0\0\x08" + struct.pack(">H", number) + b"".join(entries) + after

    def orientation(kind: int, count: int, value: bytes) -> bytes:
        return struct.pack(">HHI", 0x0112, kind, count) + value

    sideways = orientation(3, 1, b"\0\6\0\0")
    blocks = {
        "links-to-itself": block(sideways, after=b"\0\0\0\x08"),
        "inner-block-is-outer": block(struct.pack(">HHII", 0x8769, 4, 1, 8), sideways),
        "count-of-4294967295": block(orientation(3, 2**32 - 1, b"\0\0\0\x08")),
        "more-entries-than-bytes": block(sideways, count=65_535),
        "text": block(orientation(2, 4, b"six\0")),
        "not-a-number": block(orientation(11, 1, struct.pack(">f", float("nan")))),
        "fraction-by-0": block(orientation(5, 1, b"\0\0\0\x1a"), after=b"\0" * 12),
        "two-values": block(orientation(3, 2, b"\0\6\0\3")),
        "beyond-the-block": b"MM\0*\xff\xff\xff\xff",
    }
    return {f"exif-{name}": with_exif(tiff) for name, tiff in blocks.items()}


def gifs() -> dict[str, bytes]:
    real = encoded(Image.new("P", (64, 48)), "GIF")
    frame = real.index(b"\x2c")
    moved = real[: frame + 1] + struct.pack("<HHHH", 65_000, 65_000, 500, 400) + real[frame + 9 :]
    return {
        "gif-screen-of-65535-squared": real[:6] + struct.pack("<HH", 65_535, 65_535) + real[10:],
        "gif-frame-outside-its-screen": moved,
        "gif-frame-of-no-size": real[: frame + 5] + b"\0\0\0\0" + real[frame + 9 :],
        "gif-of-50000-frames": real[:-1] + real[frame:-1] * 50_000 + b"\x3b",
        "gif-codes-of-12-bits": real[: frame + 10] + b"\x0c" + real[frame + 11 :],
        "gif-without-frames": real[:frame] + b"\x3b",
        "gif-of-comments": real[:frame] + b"\x21\xfe\0" * 100_000 + real[frame:],
    }


def moving_webp(width: int, height: int, frames: int) -> bytes:
    """An animation on a canvas of any size, of one small frame over and over."""
    still = encoded(Image.new("RGB", (16, 16)), "WEBP", lossless=True)[12:]
    canvas = b"".join(struct.pack("<I", side - 1)[:3] for side in (width, height))
    header = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas
    frame = b"\0" * 6 + b"\x0f\0\0\x0f\0\0\x0a\0\0\0" + still
    frame = b"ANMF" + struct.pack("<I", len(frame)) + frame
    body = b"WEBP" + header + b"ANIM\x06\0\0\0" + b"\0" * 6 + frame * frames
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webps() -> dict[str, bytes]:
    return {
        "webp-canvas-of-16384-squared": moving_webp(16_384, 16_384, 1),
        "webp-canvas-of-2-to-the-24": moving_webp(2**24, 255, 1),
        "webp-canvas-larger-than-its-frame": moving_webp(1990, 2000, 1),
        "webp-canvas-smaller-than-its-frame": moving_webp(8, 8, 1),
        "webp-of-20000-frames": moving_webp(16, 16, 20_000),
        "webp-bomb": encoded(Image.new("RGB", (16_000, 11_000)), "WEBP", lossless=True, method=0),
        "webp-riff-of-4294967295": b"RIFF\xff\xff\xff\xff" + real_images()["webp"][8:],
    }


def bmps() -> dict[str, bytes]:
    real = encoded(Image.new("RGB", (64, 48)), "BMP")

    def sized(width: int, height: int) -> bytes:
        return real[:18] + struct.pack("<ii", width, height) + real[26:]

    run_length = bytearray(sized(1990, 2000)[:54] + bytes(1024) + b"\0\2\xff\xff" * 200 + b"\0\1")
    run_length[10:14] = struct.pack("<I", 54 + 1024)
    run_length[28:34] = struct.pack("<HI", 8, 1)
    return {
        "bmp-of-least-height": sized(64, -(2**31)),
        "bmp-of-most-width": sized(2**31 - 1, 1),
        "bmp-of-negative-width": sized(-64, 48),
        "bmp-claims-more-than-it-has": sized(1990, 2000),
        "bmp-pixels-beyond-the-file": real[:10] + b"\xff" * 4 + real[14:],
        "bmp-of-2147483648-colours": real[:28]
        + b"\x08\0"
        + real[30:46]
        + b"\0\0\0\x80"
        + real[50:],
        "bmp-run-lengths-that-skip": bytes(run_length),
    }


def hostile_images() -> dict[str, bytes]:
    """All of them by name."""
    return pngs() | jpegs() | exifs() | gifs() | webps() | bmps()


def images_at_the_cap() -> dict[str, bytes]:
    """Honest pictures of nearly four megapixels that take small files and much memory."""
    size = (1990, 2000)
    made: dict[str, bytes] = {}
    for mode in ("RGB", "RGBA", "LA", "I;16", "1"):
        made[f"png-{mode.replace(';', '')}"] = encoded(Image.new(mode, size), "PNG")
    made["png-key"] = encoded(Image.new("P", size), "PNG", transparency=0)
    for mode in ("L", "RGB", "CMYK"):
        picture = Image.new(mode, size)
        made[f"jpeg-{mode}"] = encoded(picture, "JPEG")
        made[f"jpeg-progressive-{mode}"] = encoded(picture, "JPEG", progressive=True)
    turned = Image.Exif()
    turned[0x0112] = 8
    made["jpeg-turned"] = encoded(Image.new("RGB", size), "JPEG", exif=turned)
    for mode in ("RGB", "RGBA"):
        made[f"webp-{mode}"] = encoded(Image.new(mode, size), "WEBP", lossless=True, method=0)
    made["webp-lossy"] = encoded(Image.new("RGB", size), "WEBP", method=0)
    made["gif"] = encoded(Image.new("P", size), "GIF", transparency=0)
    made["bmp"] = encoded(Image.new("P", size), "BMP")
    return made
