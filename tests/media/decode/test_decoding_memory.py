"""Media as large as the limits grant stay in the memory that is set aside for decoding them."""

from pathlib import Path

import numpy as np
from loading_run import run_files
from PIL import Image
from real_files import encode_clip, encoded


def images_at_the_cap() -> dict[str, bytes]:
    """Of nearly four megapixels: their files hold next to nothing, the header says what comes."""
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


def videos_at_the_cap() -> dict[str, bytes]:
    shown = np.full((4, 2000, 1984, 3), 99, np.uint8)
    return {
        f"{container}-{codec}": encode_clip(container, codec, shown=shown)
        for container, codec in (
            *(("mp4", "libx264"), ("webm", "libvpx-vp9"), ("webm", "libvpx")),
            *(("avi", "mpeg4"), ("avi", "mjpeg"), ("gif", "gif")),
        )
    }


def test_media_at_the_cap_stay_in_their_room(tmp_path: Path) -> None:
    cases = {f"{name}.image": data for name, data in images_at_the_cap().items()}
    cases |= {f"{name}.video": data for name, data in videos_at_the_cap().items()}
    for case in run_files(cases, tmp_path).values():
        assert case.outcome == "served", f"{case.name}: {case.message}"
        assert case.name.endswith("video") or case.room >= 3 * 1990 * 2000
