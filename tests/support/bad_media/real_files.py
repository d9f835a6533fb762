"""Small real files of every format that is served."""

import io
import tempfile
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from media_samples import raster
from PIL import Image

WIDTH, HEIGHT, FRAMES = 64, 48, 8
PIXEL_FORMATS = {"gif": "rgb8", "mjpeg": "yuvj420p"}  # of a codec; yuv420p of all others


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """An image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def encode_clip(
    container: str,
    codec: str = "libx264",
    frames: int = FRAMES,
    shown: npt.NDArray[np.uint8] | None = None,
    rate: int = 25,
    **options: str,
) -> bytes:
    """A video file; the same bytes every time.

    Args:
        shown: ``[frames, height, width, 3]``; else ``frames`` frames with structure and noise.
    """
    if shown is None:
        shown = raster(3, frames, HEIGHT, WIDTH)
    options = {"fflags": "+bitexact", **options}
    with tempfile.NamedTemporaryFile() as file:  # "faststart" reads what it wrote, by name
        with av.open(file.name, "w", format=container, options=options) as writer:
            stream = writer.add_stream(codec, rate=rate)
            stream.height, stream.width = shown.shape[1:3]
            stream.thread_count = 1
            stream.pix_fmt = PIXEL_FORMATS.get(codec, "yuv420p")
            writer.start_encoding()  # a header even where no frame follows
            for pixels in shown:
                writer.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            writer.mux(stream.encode())
        return file.read()


def real_images() -> dict[str, bytes]:
    """Image files by name; every one is served."""
    first, *rest = (Image.fromarray(pixels) for pixels in raster(5, 3, HEIGHT, WIDTH))
    exif = Image.Exif()
    exif[0x0112] = 6
    moving: dict[str, Any] = {"save_all": True, "append_images": rest, "duration": 40}
    return {
        "jpeg": encoded(first, "JPEG", exif=exif),
        "jpeg-progressive": encoded(first, "JPEG", progressive=True),
        "jpeg-cmyk": encoded(first.convert("CMYK"), "JPEG"),
        "png": encoded(first, "PNG"),
        "png-palette": encoded(first.quantize(16), "PNG", transparency=0),
        "png-moving": encoded(first, "PNG", **moving),
        "webp": encoded(first, "WEBP"),
        "webp-lossless": encoded(first.convert("RGBA"), "WEBP", lossless=True),
        "webp-moving": encoded(first, "WEBP", **moving),
        "gif": encoded(first, "GIF"),
        "gif-moving": encoded(first, "GIF", **moving),
        "bmp": encoded(first, "BMP"),
        "bmp-palette": encoded(first.quantize(16), "BMP"),
    }


def real_clips() -> dict[str, bytes]:
    """Video files by name; every one is served."""
    return {
        "mp4": encode_clip("mp4"),
        "mp4-header-first": encode_clip("mp4", movflags="faststart"),
        "mp4-fragments": encode_clip("mp4", movflags="frag_keyframe+empty_moov"),
        "mov": encode_clip("mov"),
        "mkv": encode_clip("matroska"),
        "webm-vp9": encode_clip("webm", "libvpx-vp9"),
        "webm-vp8": encode_clip("webm", "libvpx"),
        "avi": encode_clip("avi", "mpeg4"),
        "avi-mjpeg": encode_clip("avi", "mjpeg"),
        "gif-clip": encode_clip("gif", "gif"),
    }
