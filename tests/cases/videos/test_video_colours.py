"""Colours of videos: HDR and wide gamut, as they are seen, and every format of pixels."""

import io

import av
import numpy as np
import pytest
from clips import plain, video
from loading import load_video
from video_cases import LIMITS, QUIET, X265

from saccade.media.controls import VideoControls
from saccade.media.decode.resize import resize
from saccade.media.decode.video import FrameConverter

WHITE, RED, GREY = (255, 255, 255), (255, 0, 0), (128, 128, 128)

# Colours. Made by the formulas of BT.2100, BT.709 and SMPTE RP 431, not by ours.
TO_2020 = np.array(
    [[0.627404, 0.329283, 0.043313], [0.069097, 0.919540, 0.011362], [0.016391, 0.088013, 0.895595]]
)

TO_P3 = np.array([[0.822462, 0.177538, 0], [0.033194, 0.966806, 0], [0.017083, 0.072397, 0.910520]])


def hlg(light):
    """The signal of 203 times so many cd/m2."""
    display = light * 203 / 1000
    luminance = max(display @ (0.2627, 0.6780, 0.0593), 1e-9)
    scene = display * luminance ** (1 / 1.2 - 1)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)


def pq(light):
    power = (light * 203 / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def gamma(light):
    return light ** (1 / 2.4)


# name: (matrix from BT.709, transfer, H.273's codes of primaries, transfer and matrix)
COLOURS = {
    "HLG": (TO_2020, hlg, 9, 18, 9),
    "PQ": (TO_2020, pq, 9, 16, 9),
    "PQ in P3": (TO_P3, pq, 12, 16, 9),
    "BT.2020": (TO_2020, gamma, 9, 14, 9),
    "BT.2020, 12 bits": (TO_2020, gamma, 9, 15, 9),
    "Display P3": (TO_P3, gamma, 12, 1, 1),
}

LUMA = {9: (0.2627, 0.6780, 0.0593), 1: (0.2126, 0.7152, 0.0722)}


def coloured(kind, colours, size=(192, 128), frames=4, tagged=True):
    """A 10-bit HEVC MP4 of stripes in these sRGB colours."""
    matrix, transfer, *tags = COLOURS[kind]
    light = (np.array(colours) / 255) ** 2.4 @ matrix.T
    rgb = np.array([transfer(colour) for colour in light])
    red, green, blue = LUMA[tags[2]]
    luma = rgb @ (red, green, blue)
    cb, cr = (rgb[:, 2] - luma) / (2 - 2 * blue), (rgb[:, 0] - luma) / (2 - 2 * red)
    planes = [np.rint(64 + 876 * luma), *(np.rint(512 + 896 * chroma) for chroma in (cb, cr))]
    width, height = size

    def frame():
        made = av.VideoFrame(width, height, "yuv420p10le")
        for plane, values in zip(made.planes, planes, strict=True):
            row = np.repeat(values, plane.width // len(colours) + 1)[: plane.width]
            stride = np.zeros(plane.line_size // 2, "<u2")
            stride[: plane.width] = row
            plane.update(np.tile(stride, plane.height).tobytes())
        return made

    def tag(stream):
        if tagged:
            context = stream.codec_context
            context.color_primaries, context.color_trc, context.colorspace = tags

    params = f"{QUIET}:lossless=1"
    if tagged:
        params += f":colorprim={tags[0]}:transfer={tags[1]}:colormatrix={tags[2]}"
    return video(
        "mp4",
        "libx265",
        (frame() for _ in range(frames)),
        pix_fmt="yuv420p10le",
        size=size,
        options={X265: params},
        prepare=tag,
    )


def stripes(frame, count):
    width = frame.shape[1]
    return [frame[10:-10, int((n + 0.5) * width / count)].mean(0) for n in range(count)]


@pytest.mark.parametrize("kind", COLOURS)
def test_hdr_and_wide_gamut_become_sdr(kind):
    colours = (WHITE, RED, GREY, (40, 90, 200))
    frames, _ = load_video(coloured(kind, colours), VideoControls(nframes=2), LIMITS)
    white, red, grey, blue = stripes(frames[0], 4)
    assert white.min() >= 245
    assert np.abs(red - RED).max() <= 25
    assert np.abs(grey - GREY).max() <= 8
    assert np.abs(blue - (40, 90, 200)).max() <= 15  # a step of PQ in 8 bits is 3 % of the light


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_colours_that_only_the_container_names(container):
    colours = (WHITE, RED, GREY, (40, 90, 200))
    output = io.BytesIO()
    with (
        av.open(io.BytesIO(coloured("HLG", colours, tagged=False))) as reader,
        av.open(output, "w", format=container) as writer,
    ):
        stream = writer.add_stream_from_template(reader.streams.video[0])
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = COLOURS["HLG"][2:]
        for packet in reader.demux(video=0):
            if packet.size:
                packet.stream = stream
                writer.mux(packet)
    frames, _ = load_video(output.getvalue(), VideoControls(nframes=2), LIMITS)
    told, _ = load_video(coloured("HLG", colours), VideoControls(nframes=2), LIMITS)
    assert np.abs(np.subtract(stripes(frames[0], 4), stripes(told[0], 4))).max() <= 2


def test_other_colours_stay_as_they_are_to_the_bit():
    """Untagged, BT.709, BT.601 and sRGB: what FFmpeg makes of them."""
    size = {"resized_width": 168, "resized_height": 140}
    for tags in (None, (1, 1, 1), (6, 6, 6), (5, 6, 5), (1, 13, 1), (1, 2, 2)):

        def tag(stream, tags=tags):
            if tags:
                context = stream.codec_context
                context.color_primaries, context.color_trc, context.colorspace = tags

        data = video("mp4", "libx264", 4, size=(168, 140), prepare=tag)
        frames, _ = load_video(data, VideoControls(nframes=4, **size), LIMITS)
        for frame, (_, pixels) in zip(frames, plain(data), strict=True):
            np.testing.assert_array_equal(frame, pixels, err_msg=str(tags))


def grey_frames(pix_fmt, frames=4):
    """A ramp from black to white, in a format with a palette or without."""
    ramp = np.tile(np.linspace(0, 255, 64, dtype=np.uint8), (48, 1))
    for _ in range(frames):
        if pix_fmt == "pal8":
            palette = np.zeros((256, 4), np.uint8)
            palette[:, :3] = np.arange(256)[:, None]
            palette[:, 3] = 255
            made = av.VideoFrame(64, 48, "pal8")
            rows = np.zeros((48, made.planes[0].line_size), np.uint8)
            rows[:, :64] = ramp
            made.planes[0].update(rows.tobytes())
            made.planes[1].update(palette.tobytes())
            yield made
        else:
            yield av.VideoFrame.from_ndarray(ramp, format="gray").reformat(format=pix_fmt)


@pytest.mark.parametrize(
    ("container", "codec", "pix_fmt"),
    [
        ("mov", "qtrle", "gray"),
        ("mov", "qtrle", "rgb555be"),
        ("mov", "png", "pal8"),
        ("mov", "png", "gray"),
        ("mov", "png", "gray16be"),
        ("mov", "png", "ya8"),
        ("mov", "png", "monob"),
        ("avi", "rawvideo", "pal8"),
        ("avi", "rawvideo", "gray"),
        ("avi", "rawvideo", "bgr24"),
        ("matroska", "ffv1", "gray16le"),
        ("matroska", "ffv1", "yuva420p"),
        ("matroska", "ffv1", "gbrp10le"),
        ("avi", "huffyuv", "rgb24"),
        ("avi", "cinepak", "rgb24"),
    ],
)
def test_every_pixel_format_is_shown(container, codec, pix_fmt):
    data = video(container, codec, grey_frames(pix_fmt), pix_fmt=pix_fmt, size=(64, 48))
    frames, _ = load_video(data, VideoControls(nframes=2), LIMITS)
    left, middle, right = stripes(frames[0], 3)
    assert left.max() < 90
    assert right.min() > 165
    if pix_fmt != "monob":
        assert 100 < middle.mean() < 155


def test_colours_cost_little_after_the_first_frame():
    """Counted in work, not in seconds: at most so many pixels are mapped as the model is shown."""
    from saccade.media.decode import video as module

    mapped = []
    really = module.to_sdr
    try:
        module.to_sdr = lambda pixels, table: (
            mapped.append(pixels.shape[:2]),
            really(pixels, table),
        )[1]
        for size, most in (((192, 128), (128, 192)), ((1280, 720), (252, 448))):
            mapped.clear()
            controls = VideoControls(nframes=2, max_pixels=448 * 252)
            load_video(coloured("HLG", (WHITE, RED), size), controls, LIMITS)
            assert len(mapped) == 2
            assert all(height * width <= most[0] * most[1] for height, width in mapped)
    finally:
        module.to_sdr = really


def test_colours_are_mapped_once_where_the_decoder_gives_rgb():
    """Its frames are seen in its own memory, and may be shown again."""
    grey = av.VideoFrame.from_ndarray(np.full((128, 160, 3), 150, np.uint8), format="rgb24")
    with av.open(io.BytesIO(video("nut", "rawvideo", [grey], pix_fmt="rgb24"))) as reader:
        converter = FrameConverter(reader.streams.video[0])
        frame = next(reader.decode(video=0))
    frame.color_trc = COLOURS["HLG"][3]
    before = frame.to_ndarray(format="rgb24").copy()
    for size in (before.shape[:2], (256, 320)):
        first, again = (converter.convert(frame, *size) for _ in range(2))
        np.testing.assert_array_equal(first, again)
        np.testing.assert_array_equal(frame.to_ndarray(format="rgb24"), before)
    assert np.abs(first.astype(int) - resize(before, *size)).max() > 20
