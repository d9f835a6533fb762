"""Pictures that lie, swell or break off: refused or served, in the memory set aside for them."""

from pathlib import Path

import pytest
from hostile_images import hostile_images, images_at_the_cap
from hostile_run import Outcome, run_files, served_cuts
from hostile_samples import encoded, real_images
from media_samples import as_url
from PIL import Image

from saccade.media.controls import VideoControls
from saccade.media.errors import DecodeError
from saccade.media.fetch import FetchPolicy
from saccade.media.image import read_header
from saccade.media.loader import MediaLoader
from saccade.media.markers import MAX_JPEG_SCANS, MAX_PNG_CHUNKS, has_many_scans, png_chunks
from saccade.media.plan import PixelLimits, VisionGeometry

# What the header announces beyond the limit; nothing is decoded.
TOO_LARGE = {
    "bmp-of-least-height",
    "bmp-of-most-width",
    "bmp-of-negative-width",
    "gif-frame-outside-its-screen",
    "gif-screen-of-65535-squared",
    "jpeg-claims-65500-squared",
    "jpeg-second-frame-header",
    "png-bomb",
    "png-bomb-at-any-cap",
    "png-second-header",
    "webp-bomb",
    "webp-canvas-of-16384-squared",
    "webp-canvas-of-2-to-the-24",
}
# Sound where it matters: the first frame is there, and what swells or lies is not looked at.
SERVED = {
    "bmp-run-lengths-that-skip",
    "gif-of-50000-frames",
    "gif-of-comments",
    "jpeg-claims-more-than-it-has",  # PIL and libjpeg-turbo fill with grey up to the end marker
    "jpeg-has-more-than-it-claims",
    "jpeg-of-endless-comments",
    "png-chunk-longer-than-file",
    "png-has-more-than-it-claims",
    "png-of-2147483647-frames",
    "png-of-5000-frames",
    "png-second-header-behind",
    "webp-canvas-larger-than-its-frame",
    "webp-of-20000-frames",
    *(name for name in hostile_images() if name.startswith("exif-")),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    return run_files(hostile_images(), "image", tmp_path_factory.mktemp("hostile"))


@pytest.mark.parametrize("name", hostile_images())
def test_hostile_pictures(name: str, outcomes: dict[str, Outcome]) -> None:
    case = outcomes[name]
    expected = "LimitError" if name in TOO_LARGE else "served" if name in SERVED else "DecodeError"
    assert case.outcome == expected, case.message
    assert case.status == {"LimitError": 413, "served": 200, "DecodeError": 400}[expected]
    assert case.seconds < 5  # a bound on work without end; the slowest takes a tenth of a second


def test_pictures_at_the_cap_stay_in_their_room(tmp_path: Path) -> None:
    """Their files hold next to nothing; what decoding them takes is announced by the header."""
    cases = images_at_the_cap()
    for case in run_files(cases, "image", tmp_path).values():
        assert case.outcome == "served", f"{case.name}: {case.message}"
        assert case.room >= 3 * 1990 * 2000


def test_pictures_cut_at_every_percent(tmp_path: Path) -> None:
    for name, served in served_cuts(real_images(), "image", tmp_path).items():
        # The first of three frames is whole from a third on; a palette PNG ends in spare chunks.
        least = 30 if name in ("png-moving", "gif-moving") else 99 if "palette" in name else 100
        assert 100 in served, name
        assert min(served) >= least, name


def with_scans(count: int) -> bytes:
    """As much of a progressive JPEG as the count looks at."""
    frame = b"\xff\xc2\x00\x0b\x08\x00\x08\x00\x08\x01\x01\x11\x00"
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00" + b"data \xff\x00 \xff\xd3 more"
    return b"\xff\xd8" + frame + scan * count + b"\xff\xd9" + scan


def test_scans_are_counted_to_the_end_marker() -> None:
    assert has_many_scans(with_scans(MAX_JPEG_SCANS))
    with pytest.raises(DecodeError, match="scans"):
        has_many_scans(with_scans(MAX_JPEG_SCANS + 1))
    assert not has_many_scans(real_images()["jpeg"])
    assert has_many_scans(real_images()["jpeg-progressive"])
    # A thumbnail or a comment that holds scans does not count.
    comment = b"\xff\xfe\x17\x72" + b"\xff\xda" * 3000
    assert not has_many_scans(real_images()["jpeg"][:2] + comment + real_images()["jpeg"][2:])


def test_chunks_are_counted() -> None:
    chunk = b"\0\0\0\0abCd\0\0\0\0"
    assert len(list(png_chunks(b"\0" * 8 + chunk * MAX_PNG_CHUNKS))) == MAX_PNG_CHUNKS
    with pytest.raises(DecodeError, match="chunks"):
        list(png_chunks(b"\0" * 8 + chunk * (MAX_PNG_CHUNKS + 1)))


def test_several_scans_cost_more_room() -> None:
    images = real_images()
    plain, progressive = (read_header(images[n]) for n in ("jpeg", "jpeg-progressive"))
    assert progressive.decoding_bytes - plain.decoding_bytes == 64 * 48 * 2 * 3


async def test_a_small_first_frame_does_not_hide_large_ones() -> None:
    """Frames of a list may differ in size; as many are decoded at once as there are threads."""
    small, large = (encoded(Image.new("RGB", (side, side)), "PNG") for side in (56, 1900))
    urls = [as_url(data, "image/png") for data in (small, large, small, large, large)]
    controls = VideoControls(resized_width=112, resized_height=112)
    loader = MediaLoader(VisionGeometry(), PixelLimits(), FetchPolicy(), workers=2)
    try:
        prepared = await loader.prepare_video(urls, controls)
        assert (prepared.plan.source_width, prepared.plan.source_height) == (56, 56)
        assert prepared.decoding_bytes >= 2 * read_header(large).decoding_bytes
        assert len((await loader.decode_video(prepared)).frames) == 6
    finally:
        await loader.close()
