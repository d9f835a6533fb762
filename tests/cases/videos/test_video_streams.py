"""Which frames a stream gives: joined, cut, packed two in a packet, one of several tracks."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from clips import copied, joined, packets, plain, read_number, video
from loading import load_video
from video_cases import LIMITS, QUIET, X264, X265, all_shown, shown

from saccade.media.controls import VideoControls
from saccade.media.decode.resize import resize

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
