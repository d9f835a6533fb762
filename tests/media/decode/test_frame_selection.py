"""Only what the wanted frames need is decoded, and they come out the same."""

import io
import random

import av
import numpy as np
import pytest

from saccade.media.decode.frame_selection import decoded_frames, schedule
from saccade.media.decode.probe import probe_video
from saccade.media.limits import MediaLimits
from saccade.media.types import NO_STAMP, PACKET

FRAMES = 90
Packet = tuple[int, bool, bool]


def clip(codec: str, container: str, **options: str) -> bytes:
    """Noise that moves: a frame decoded from the wrong references looks different."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 96 + FRAMES, 3), dtype=np.uint8)
    output = io.BytesIO()
    with av.open(output, "w", format=container) as writer:
        stream = writer.add_stream(codec, rate=25)
        stream.width, stream.height = 96, 64
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = options
        for number in range(FRAMES):
            pixels = np.ascontiguousarray(noise[:, number : number + 96])
            writer.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        writer.mux(stream.encode())
    return output.getvalue()


@pytest.mark.parametrize(
    ("codec", "container", "options"),
    [
        ("libx264", "mp4", {}),
        ("libx264", "mp4", {"x264-params": "keyint=12:bframes=3:b-pyramid=normal"}),
        ("libx264", "matroska", {"x264-params": "keyint=12:open-gop=1:bframes=3"}),
        ("libx265", "mp4", {"x265-params": "keyint=12:open-gop=1:bframes=4:log-level=none"}),
        ("libvpx-vp9", "webm", {"g": "15"}),
        ("libvpx", "webm", {"g": "15"}),
        ("mjpeg", "mov", {}),
    ],
)
@pytest.mark.parametrize("threads", [1, 3])
def test_scheduled_frames_equal_those_of_a_whole_decode(
    codec: str, container: str, options: dict[str, str], threads: int
) -> None:
    data = clip(codec, container, **options)
    with av.open(io.BytesIO(data)) as reader:
        whole = [frame.to_ndarray(format="rgb24") for frame in reader.decode(video=0)]
    packets = probe_video(data, MediaLimits()).packets
    assert packets is not None
    chance = random.Random(3)
    for count in (1, 2, 7, 30, FRAMES):
        indices = sorted(chance.sample(range(FRAMES), count))
        todo = schedule(packets, indices)
        assert todo is not None
        with av.open(io.BytesIO(data)) as reader:
            stream = reader.streams.video[0]
            stream.codec_context.thread_count = threads
            seen = {
                frame.pts: frame.to_ndarray(format="rgb24")
                for frame in decoded_frames(stream.codec_context, reader.demux(stream), todo.uses)
            }
        for index, stamp in zip(indices, todo.stamps, strict=True):
            np.testing.assert_array_equal(seen[stamp], whole[index], err_msg=f"{count}: {index}")


def uses(packets: list[Packet], *indices: int) -> str:
    """One letter a packet."""
    todo = schedule(np.array(packets, PACKET), indices)
    assert todo is not None
    return "".join(use[:2] for use in todo.uses)


def packet(stamp: int, keyframe: bool = False, shown: bool = True) -> Packet:
    return stamp, keyframe, shown


def test_groups_without_a_wanted_frame_are_skipped() -> None:
    packets = [packet(stamp, keyframe=stamp % 4 == 0) for stamp in range(12)]
    assert uses(packets, 5) == "sksksksk" + "reshsksk" + "sksksksk"
    assert uses(packets, 0, 10) == "shsksksk" + "sksksksk" + "reresh" + "sk"


def test_frames_shown_before_their_keyframe_need_the_group_before() -> None:
    stamps = [0, 2, 1, 5, 3, 4, 7, 6]
    packets = [packet(stamp, keyframe=stamp in (0, 5)) for stamp in stamps]
    assert uses(packets, 3) == "rerere" + "resh" + "sksksk"
    assert uses(packets, 5) == "sksksk" + "sh" + "sksksksk"


def test_frames_that_an_edit_list_cuts_off_are_not_counted() -> None:
    packets = [packet(0, keyframe=True, shown=False), packet(1, shown=False), packet(2), packet(3)]
    assert uses(packets, 0) == "rereshsk"


@pytest.mark.parametrize(
    "packets",
    [
        [packet(0, keyframe=True), packet(NO_STAMP)],
        [packet(0, keyframe=True), packet(0)],
    ],
)
def test_stamps_that_do_not_tell_frames_apart_are_no_help(packets: list[Packet]) -> None:
    assert schedule(np.array(packets, PACKET), [0]) is None


def test_a_frame_that_is_not_there_is_no_help() -> None:
    assert schedule(np.array([packet(0, keyframe=True)], PACKET), [1]) is None
