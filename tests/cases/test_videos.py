"""Videos as people send them: joined, cut, damaged, HDR, in old codecs and with odd clocks."""

import io
import json
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from clips import (
    broken,
    copied,
    is_clean,
    joined,
    numbered,
    packets,
    plain,
    read_number,
    video,
)
from loading import load_video
from PIL import Image

from saccade.media.controls import VideoControls
from saccade.media.decode.probe import probe_video
from saccade.media.decode.resize import resize
from saccade.media.decode.video import FrameConverter
from saccade.media.errors import DecodeError
from saccade.media.limits import MediaLimits
from saccade.server.cli import main
from saccade.server.response.vision_report import report_medium

LIMITS = MediaLimits()
WHITE, RED, GREY = (255, 255, 255), (255, 0, 0), (128, 128, 128)


def shown(data, **controls):
    """(the numbers that the frames show, their plan); every frame is clean."""
    frames, plan = load_video(data, VideoControls(**controls), LIMITS)
    assert all(is_clean(frame) for frame in frames)
    return [read_number(frame) for frame in frames], plan


def all_shown(data):
    return shown(data, nframes=probe_video(data, LIMITS).frames // 2 * 2)


X264, X265 = "x264-params", "x265-params"
QUIET = "log-level=none"
DESCRIPTIONS = {
    "cabac": ("libx264", {X264: "keyint=10"}, {X264: "keyint=10:cabac=0"}),
    "baseline": ("libx264", {X264: "keyint=10"}, {X264: "keyint=10", "profile": "baseline"}),
    "hevc": ("libx265", {X265: f"keyint=10:{QUIET}"}, {X265: f"keyint=10:ctu=16:{QUIET}"}),
}


@pytest.mark.parametrize("container", ["mp4", "mov"])
@pytest.mark.parametrize("kind", DESCRIPTIONS)
def test_two_sample_descriptions(kind, container):
    codec, one, other = DESCRIPTIONS[kind]
    parts = [video("mp4", codec, options=one), video("mp4", codec, first=40, options=other)]
    data = joined(parts, container)
    truth = [read_number(pixels) for _, pixels in plain(data)]
    assert truth == list(range(80))
    for controls in ({"fps": 0.5}, {"nframes": 4}, {"nframes": 6, "video_start": 1.7}):
        numbers, plan = shown(data, **controls)
        assert numbers == list(plan.frame_indices), controls
    assert all_shown(data)[0] == truth


def test_headers_that_only_a_skipped_packet_holds():
    """The second part's header stands before its first keyframe, and nowhere else."""
    parts = [
        video("avi", "mpeg4", 40, first=first, options={"g": "10", "mpeg_quant": quant})
        for first, quant in ((0, "0"), (40, "1"))
    ]
    written = [packet for part in parts for packet in packets(part)]
    for number, packet in enumerate(written):
        if number not in (0, 40):
            written[number] = packet[packet.index(b"\0\0\1\xb6") :]
    output = io.BytesIO()
    with av.open(io.BytesIO(parts[0])) as reader, av.open(output, "w", format="avi") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for number, data in enumerate(written):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = number
            packet.is_keyframe = number % 10 == 0
            writer.mux(packet)
    truth = [pixels for _, pixels in plain(output.getvalue())]
    size = {"resized_width": 168, "resized_height": 140}
    for controls in ({"fps": 0.5}, {"nframes": 4}, {"nframes": 6, "video_start": 2.5}):
        wanted = VideoControls(**controls, **size)
        frames, plan = load_video(output.getvalue(), wanted, LIMITS)
        for frame, index in zip(frames, plan.frame_indices, strict=True):
            np.testing.assert_array_equal(frame, resize(truth[index], 140, 168), str(controls))


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


def test_what_one_doubled_stamp_hides():
    """The 20 frames last 0 (one stamp is doubled), four times 100, 5000 and again 100 ms."""
    lasting = [0, *[100] * 4, 5000, *[100] * 14]
    times = [sum(lasting[:number]) for number in range(20)]
    data = with_doubled_stamp(times)
    numbers, plan = shown(data, fps=1.6)
    assert plan.source_frames == 20
    assert numbers == list(plan.frame_indices)
    assert plan.frame_times == pytest.approx([times[n] / 1000 for n in plan.frame_indices])
    assert plan.frame_times[0] == 0
    assert plan.time_deviation > 1
    assert plan.uneven
    assert all_shown(data)[0] == list(range(20))


def with_doubled_stamp(times):
    """VP8 in Matroska, which takes two frames at one time."""
    parts = packets(video("webm", "libvpx", len(times), options={"deadline": "realtime"}))
    output = io.BytesIO()
    with av.open(output, "w", format="matroska") as writer:
        stream = writer.add_stream("libvpx", rate=25)
        stream.width, stream.height = 160, 128
        for number, (data, at) in enumerate(zip(parts, times, strict=True)):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = at
            packet.is_keyframe = number == 0
            writer.mux(packet)
    return output.getvalue()


def gif(delays):
    """Numbered frames that last so many hundredths of a second each."""
    pictures = [Image.fromarray(numbered(number)) for number in range(len(delays))]
    output = io.BytesIO()
    pictures[0].save(output, "GIF", save_all=True, append_images=pictures[1:], duration=100)
    data = bytearray(output.getvalue())
    position = -1
    for delay in delays:  # in the graphic control extension (GIF89a, 23)
        position = data.index(b"\x21\xf9\x04", position + 1)
        data[position + 4 : position + 6] = struct.pack("<H", delay)
    return bytes(data)


@pytest.mark.parametrize("delay", [0, 1])
def test_gif_delays_that_browsers_take_for_ten(delay):
    numbers, plan = shown(gif([delay] * 6), nframes=6)
    assert numbers == list(range(6))
    assert plan.frame_times == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert plan.source_fps == pytest.approx(10)
    # Two hundredths are meant.
    assert shown(gif([2] * 6), nframes=6)[1].frame_times[-1] == pytest.approx(0.1)
    mixed = shown(gif([1, 50, 1, 1, 20, 5]), nframes=6)[1]
    assert mixed.frame_times == pytest.approx([0, 0.1, 0.6, 0.7, 0.8, 1.0])
    assert mixed.source_duration == pytest.approx(1.05)


def with_packed_frames(count, leading=False):
    """MPEG-4 with B-frames, two frames in a packet and then an empty one, as XviD writes AVI."""
    data = video("avi", "mpeg4", count, options={"bf": "1", "g": "12", "b_strategy": "0"})
    single = packets(data)
    kinds = [one[one.index(b"\0\0\1\xb6") + 4] >> 6 for one in single]  # 0: I, 1: P, 2: B
    empty = b"\0\0\1\xb6\x40\x80"
    written, position = [empty] * leading, 0
    while position < len(single):
        pair = kinds[position] != 2 and kinds[position + 1 : position + 2] == [2]
        written += (
            [b"".join(single[position : position + 2]), empty] if pair else [single[position]]
        )
        position += 1 + pair
    first = written[leading]
    header = first.index(b"\0\0\1\xb6")
    written[leading] = first[:header] + b"\0\0\1\xb2DivX503b1393p" + first[header:]
    output = io.BytesIO()
    with av.open(io.BytesIO(data)) as reader, av.open(output, "w", format="avi") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for number, one in enumerate(written):
            packet = av.Packet(one)
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = number
            packet.is_keyframe = one != empty and one[one.index(b"\0\0\1\xb6") + 4] >> 6 == 0
            writer.mux(packet)
    return output.getvalue()


@pytest.mark.parametrize("leading", [False, True])
def test_packed_b_frames(leading):
    data = with_packed_frames(39, leading)
    truth = [read_number(pixels) for _, pixels in plain(data)]
    assert truth == list(range(39))
    for controls in ({"nframes": 38}, {"nframes": 4}, {"nframes": 6, "video_start": 0.5}):
        numbers, plan = shown(data, **controls)
        assert numbers == list(plan.frame_indices)
        assert plan.source_frames == 39
        assert plan.frame_times == pytest.approx([index / 25 for index in plan.frame_indices])
        assert plan.damaged_frames == 0


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg1video", "mpeg2video", "libx264"])
def test_avi_has_one_exact_rate(codec):
    options = {X264: "keyint=12"} if codec == "libx264" else {"bf": "2", "g": "12"}
    data = video("avi", codec, options=options)
    for controls in ({"nframes": 40}, {"nframes": 4}, {"nframes": 6, "video_start": 0.5}):
        numbers, plan = shown(data, **controls)
        assert numbers == list(plan.frame_indices)
        assert plan.source_fps == 25.0
        assert plan.frame_times == pytest.approx([index / 25 for index in plan.frame_indices])


@pytest.mark.parametrize("rate", [25, Fraction(30_000, 1001), 15])
def test_h264_copied_into_avi(rate):
    data = copied(video("mp4", "libx264", rate=rate), "avi", bitstream="h264_mp4toannexb")
    numbers, plan = shown(data, nframes=40)
    assert numbers == list(range(40))
    assert plan.source_fps == pytest.approx(float(rate), rel=1e-3)
    assert plan.frame_times == pytest.approx([n / float(rate) for n in range(40)], abs=2e-3)


@pytest.mark.parametrize("container", ["matroska", "mp4", "mpegts"])
def test_a_cut_leaves_frames_that_no_decoder_gives(container):
    params = f"bframes=8:keyint=15:min-keyint=15:open-gop=1:scenecut=0:{QUIET}"
    bitstream = "hevc_mp4toannexb" if container == "mpegts" else None
    whole = video("mp4", "libx265", 75, options={X265: params})
    data = copied(whole, container, start=1.0, bitstream=bitstream)
    truth = [read_number(pixels) for _, pixels in plain(data)]
    assert len(truth) < len(packets(data))  # or there is nothing to see here
    for controls in ({"nframes": 4}, {"nframes": 6, "video_start": 0.5}, {"fps": 25.0}):
        numbers, plan = shown(data, **controls)
        assert plan.source_frames == len(truth)
        assert numbers == [truth[index] for index in plan.frame_indices]
        assert plan.frame_times == pytest.approx([index / 25 for index in plan.frame_indices])


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


def test_a_slideshow_tells_the_truth():
    data = gif([500, 100, 100])
    numbers, plan = shown(data)
    assert numbers == [0, 2]  # as qwen-vl-utils has it
    report = report_medium("video", plan, False)
    assert report.source_duration == pytest.approx(7)
    assert report.time_deviation > 1
    assert report.uneven
    assert (report.sampling, report.source_frames) == ("frames", 3)


def test_sampling_by_time_shows_every_slide():
    numbers, plan = shown(gif([500, 100, 100]), sampling="time")
    assert numbers == [0] * 10 + [1] * 2 + [2] * 2
    assert plan.frame_times == pytest.approx([index / 2 for index in range(14)])
    assert (plan.seconds_per_grid, plan.uneven, plan.sampling) == (1.0, False, "time")
    part, plan = shown(gif([500, 100, 100]), sampling="time", nframes=4, video_start=4.0)
    assert part == [0, 0, 1, 2]
    assert plan.frame_times == pytest.approx([4.0, 4.75, 5.5, 6.25])
    # Where the rate is constant, it is the frame that is on screen.
    steady, plan = shown(video("mp4", "libx264"), sampling="time", fps=5.0)
    assert steady == list(plan.frame_indices) == [0, 5, 10, 15, 20, 25, 30, 35]


def two_tracks(container, dispositions):
    """Tracks of numbers from 0 and from 100."""
    output = io.BytesIO()
    parts = [video(container, "libx264", 20, first=first) for first in (0, 100)]
    with av.open(output, "w", format=container) as writer:
        sources = [av.open(io.BytesIO(part)) for part in parts]
        streams = [writer.add_stream_from_template(one.streams.video[0]) for one in sources]
        for stream, disposition in zip(streams, dispositions, strict=True):
            stream.disposition = disposition
        for stream, source in zip(streams, sources, strict=True):
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    writer.mux(packet)
    return output.getvalue()


@pytest.mark.parametrize("container", ["matroska", "mp4", "mov"])
def test_the_track_that_players_show(container):
    default = av.stream.Disposition.default
    none = av.stream.Disposition(0)
    assert all_shown(two_tracks(container, (none, default)))[0] == list(range(100, 120))
    assert all_shown(two_tracks(container, (default, none)))[0] == list(range(20))


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        ("mp4", "libx264", {X264: "keyint=10"}),
        ("matroska", "libx264", {X264: "keyint=10:bframes=0"}),
        ("mp4", "libx265", {X265: f"keyint=10:{QUIET}"}),
        ("webm", "libvpx", {"g": "10"}),
        ("webm", "libvpx-vp9", {"g": "10"}),
        ("avi", "mjpeg", {}),
        ("matroska", "ffv1", {"g": "1"}),
    ],
)
def test_a_damaged_packet_costs_no_more_than_its_frames(container, codec, options):
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    data = video(container, codec, pix_fmt=pix_fmt, options=options)
    data = broken(data, 15)
    frames, plan = load_video(data, VideoControls(nframes=40), LIMITS)
    assert plan.source_frames == 40
    assert 1 <= plan.damaged_frames <= 5
    numbers = [read_number(frame) for frame in frames]
    assert numbers[:10] == list(range(10))
    assert numbers[20:] == list(range(20, 40))
    assert report_medium("video", plan, False).damaged_frames == plan.damaged_frames
    assert all_shown(video(container, codec, pix_fmt=pix_fmt))[1].damaged_frames == 0


def shortened(data, container, number):
    """With all but the first 20 bytes of a packet left out."""
    output = io.BytesIO()
    with av.open(io.BytesIO(data)) as reader, av.open(output, "w", format=container) as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for index, packet in enumerate(one for one in reader.demux(video=0) if one.size):
            copy = av.Packet(bytes(packet)[:20] if index == number else bytes(packet))
            copy.stream, copy.time_base, copy.duration = stream, packet.time_base, packet.duration
            copy.pts, copy.dts, copy.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
            writer.mux(copy)
    return output.getvalue()


@pytest.mark.parametrize(
    ("container", "codec", "pix_fmt", "size"),
    [
        ("3gp", "h263", "yuv420p", (176, 144)),
        ("avi", "msmpeg4", "yuv420p", (160, 128)),
        ("avi", "dvvideo", "yuv420p", (720, 576)),
        ("mov", "png", "rgb24", (160, 128)),
    ],
)
def test_damage_of_which_decoders_say_something_else(container, codec, pix_fmt, size):
    data = video(container, codec, 12, pix_fmt=pix_fmt, size=size, options={"g": "4"})
    frames, plan = load_video(shortened(data, container, 5), VideoControls(nframes=10), LIMITS)
    assert (plan.source_frames, plan.damaged_frames) == (12, 1)
    numbers = [read_number(frame) for frame in frames]
    assert (numbers[0], numbers[-1]) == (0, 11)
    assert set(numbers) <= set(range(12))


def test_bytes_that_are_missing_from_an_avi():
    data = video("avi", "mpeg4", options={"g": "10"})
    middle = len(data) // 2
    data = data[:middle] + data[middle + 200 :]
    count = len(plain(data))
    frames, plan = load_video(data, VideoControls(nframes=count // 2 * 2), LIMITS)
    assert plan.source_frames == count
    assert (read_number(frames[0]), read_number(frames[-1])) == (0, 39)


@pytest.mark.parametrize(
    ("container", "codec", "offset"),
    [("mpegts", "libx264", "0"), ("mpegts", "libx264", "10"), ("mpeg", "mpeg2video", "0")],
)
def test_streams_that_were_written_one_after_the_other(container, codec, offset):
    """The clock begins anew, or goes back: players go on."""
    first = video(container, codec, 20, output_ts_offset=offset)
    data = first + video(container, codec, 20, first=20)
    for controls in ({"nframes": 4}, {"nframes": 40}, {"nframes": 4, "video_start": 0.9}):
        numbers, plan = shown(data, **controls)
        assert plan.source_frames == 40
        assert numbers == list(plan.frame_indices)
        assert plan.frame_times == pytest.approx([n / 25 for n in plan.frame_indices], abs=2e-3)


def test_raw_frames_that_are_cut_short():
    data = video("avi", "rawvideo", 20, pix_fmt="bgr24")
    frames, plan = load_video(data[: len(data) * 5 // 8], VideoControls(nframes=12), LIMITS)
    assert (plan.source_frames, plan.damaged_frames) == (13, 1)
    assert read_number(frames[0]) == 0
    assert read_number(frames[-1]) == 11


def test_still_frames_of_a_few_bytes():
    frames = (av.VideoFrame(32, 32, "gray").reformat(format="yuv420p") for _ in range(30))
    data = video("avi", "mpeg4", frames, size=(32, 32))
    assert min(map(len, packets(data))) <= 8
    assert probe_video(data, LIMITS).frames == 30


def test_a_damaged_beginning():
    data = video("mp4", "libx264", options={X264: "keyint=10:bframes=0"})
    numbers, plan = all_shown(broken(data, 0))
    assert numbers[-1] == 39
    assert len(numbers) + plan.damaged_frames == 40


@pytest.mark.parametrize(
    ("container", "codec", "pix_fmt"),
    [
        ("mpegts", "libx264", "yuv420p"),
        ("mpegts", "mpeg2video", "yuv420p"),
        ("mpeg", "mpeg1video", "yuv420p"),
        ("flv", "libx264", "yuv420p"),
        ("flv", "flv", "yuv420p"),
        ("ogg", "libvpx", "yuv420p"),
        ("asf", "wmv1", "yuv420p"),
        ("asf", "wmv2", "yuv420p"),
        ("asf", "msmpeg4", "yuv420p"),
        ("3gp", "mpeg4", "yuv420p"),
    ],
)
def test_more_containers_are_taken(container, codec, pix_fmt):
    data = video(container, codec, pix_fmt=pix_fmt)
    assert all_shown(data)[0] == list(range(40))
    numbers, plan = shown(data, nframes=4)
    assert numbers == list(plan.frame_indices) == [0, 13, 26, 39]
    assert plan.frame_times == pytest.approx([0, 0.52, 1.04, 1.56], abs=2e-3)


def test_dnxhr_is_taken():
    data = video(
        "mov",
        "dnxhd",
        8,
        pix_fmt="yuv422p",
        size=(640, 360),
        options={"profile": "dnxhr_sq"},
    )
    assert all_shown(data)[0] == list(range(8))


@pytest.mark.parametrize(
    ("container", "codec", "named"),
    [
        ("ivf", "libvpx", "an IVF video"),
        ("mxf", "mpeg2video", "an MXF video"),
        ("yuv4mpegpipe", "rawvideo", "a YUV4MPEG video"),
        ("avi", "ffvhuff", "ffvhuff"),
        ("matroska", "snow", "snow"),
    ],
)
def test_a_refusal_names_what_came_and_what_is_taken(container, codec, named):
    options = {"strict": "-2"} if codec == "snow" else {}
    with pytest.raises(DecodeError) as refused:
        load_video(video(container, codec, 4, options=options), VideoControls(), LIMITS)
    assert named in refused.value.message
    assert ("h264" if named == codec else "MP4, MOV, WebM") in refused.value.message


def test_one_frame_is_one_frame():
    for data in (gif([10]), video("webm", "libvpx", 1), video("ogg", "libvpx", 1)):
        with pytest.raises(DecodeError, match="the video has 1 frame"):
            load_video(data, VideoControls(), LIMITS)


@pytest.fixture
def plan(capsys):
    def run(*arguments):
        code = main(["plan", "--json", *map(str, arguments)])
        return code, json.loads(capsys.readouterr().out)["media"]

    return run


@pytest.mark.parametrize("name", ["a.3gp", "clip", "a.jpg", "a.ts"])
def test_plan_reads_the_kind_from_the_bytes(plan, name, tmp_path):
    file = tmp_path / name
    file.write_bytes(video("mp4", "libx264"))
    code, (report,) = plan(file, "--nframes", 4)
    assert (code, report["kind"], len(report["frame_times"])) == (0, "video", 4)


def test_plan_of_a_gif_is_of_a_video_where_it_moves(plan, tmp_path):
    for delays, kind in (([10] * 6, "video"), ([10], "image")):
        (tmp_path / "a.gif").write_bytes(gif(delays))
        assert plan(tmp_path / "a.gif")[1][0]["kind"] == kind


def test_pixels_that_are_not_square():
    """Stored 160 x 120, seen 213 x 120: a circle is squeezed unless it is asked for."""
    row, column = np.mgrid[:120, :160]
    circle = ((row - 60) ** 2 + ((column - 80) * 4 / 3) ** 2 < 50**2) * np.uint8(255)
    pixels = np.repeat(circle[:, :, None], 3, 2)

    def stretch(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    for container, codec in (("mp4", "libx264"), ("matroska", "libx264"), ("avi", "mpeg4")):
        frames = (av.VideoFrame.from_ndarray(pixels, format="rgb24") for _ in range(4))
        data = video(container, codec, frames, size=(160, 120), prepare=stretch)
        for square, ratio in ((None, 3 / 4), (False, 3 / 4), (True, 1)):
            shown, plan = load_video(data, VideoControls(square_pixels=square), LIMITS)
            white = shown[0][..., 1] > 128
            seen = white.any(0).sum() / white.any(1).sum()
            assert seen == pytest.approx(ratio, rel=0.1)
            report = report_medium("video", plan, False)
            assert report.pixel_aspect_ratio == pytest.approx(4 / 3)
            assert report.upright_size == (160, 120)
    assert probe_video(video("mp4", "libx264"), LIMITS).pixel_aspect_ratio == 1


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
