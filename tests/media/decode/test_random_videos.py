"""Random videos beside a plain decode of them by PyAV: the same frames, numbers and times.

``SACCADE_RANDOM_VIDEOS=600 pytest tests/media/decode/test_random_videos.py`` for more of them.
"""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from clips import copied, joined, plain, video
from loading import load_video

from saccade.media.controls import VideoControls
from saccade.media.decode.probe import probe_video
from saccade.media.decode.resize import resize
from saccade.media.limits import MediaLimits

COUNT = int(os.environ.get("SACCADE_RANDOM_VIDEOS", "60"))
LIMITS = MediaLimits()
WIDTH, HEIGHT = 168, 140  # as the model would be shown it

CODECS = ("libx264", "libx265", "mpeg4", "mpeg1video", "mpeg2video", "libvpx", "libvpx-vp9")
CODECS += ("mjpeg", "ffv1", "wmv2", "flv", "msmpeg4", "libsvtav1")
CONTAINERS = {
    "libx264": ("mp4", "mov", "matroska", "mpegts", "flv", "avi"),
    "libx265": ("mp4", "mov", "matroska", "mpegts"),
    "mpeg4": ("mp4", "mov", "matroska", "avi", "3gp"),
    "mpeg1video": ("mpeg", "mpegts", "avi", "matroska"),
    "mpeg2video": ("mpeg", "mpegts", "avi", "matroska", "mov"),
    "libvpx": ("webm", "matroska", "ogg", "avi"),
    "libvpx-vp9": ("webm", "matroska", "mp4"),
    "mjpeg": ("mov", "matroska", "avi"),
    "ffv1": ("matroska", "avi"),
    "wmv2": ("asf", "avi"),
    "flv": ("flv", "avi"),
    "msmpeg4": ("avi", "asf", "matroska"),
    "libsvtav1": ("mp4", "matroska", "webm"),
}
TIMED = ("mp4", "mov", "matroska", "webm")  # what may hold frames at any time
ANNEX_B = {"libx264": "h264_mp4toannexb", "libx265": "hevc_mp4toannexb"}
NO_CUT = ("mpeg", "mpegts", "ogg", "asf")  # muxers that want more than packets


@dataclass(frozen=True)
class Case:
    """What one video is made of."""

    codec: str
    container: str
    options: tuple[tuple[str, str], ...]
    rate: Fraction
    times: tuple[int, ...] | None
    cut: float
    parts: int


def case(number: int) -> Case:
    chance = random.Random(f"saccade-1/{number}")
    codec = CODECS[number % len(CODECS)]
    container = chance.choice(CONTAINERS[codec])
    keyframes, ahead = chance.choice((1, 5, 12, 250)), chance.choice((0, 1, 2, 4))
    options = {"g": str(keyframes)}
    if codec in ("libx264", "libx265"):
        params = f"keyint={keyframes}:min-keyint=1:bframes={ahead}:b-adapt=0:open-gop="
        params += str(chance.choice((0, 1)))
        if codec == "libx265":
            params += ":log-level=none:pools=1"
        options = {f"{codec[3:]}-params": params}
    elif codec in ("mpeg4", "mpeg1video", "mpeg2video"):
        options["bf"] = str(min(ahead, 2))
    rate = chance.choice((Fraction(25), Fraction(30_000, 1001), Fraction(10), Fraction(24)))
    if codec.startswith("mpeg") and codec.endswith("video"):  # these know no other rates
        rate = max(rate, Fraction(24))
    times = None
    if container in TIMED and codec not in ("mpeg1video", "mpeg2video") and chance.random() < 0.4:
        steps = [chance.choice((20, 40, 40, 40, 100, 700)) for _ in range(60)]
        times = tuple(int(at) for at in np.cumsum(steps))
    changed = container not in NO_CUT and codec != "libsvtav1"
    cut = chance.choice((0.0, 0.0, 0.5, 1.0)) if changed and container != "avi" else 0.0
    joining = changed and times is None and not cut and container in ("mp4", "mov", "matroska")
    parts = 2 if joining and codec != "mpeg4" and chance.random() < 0.4 else 1
    return Case(codec, container, tuple(options.items()), rate, times, cut, parts)


def made(one: Case) -> bytes:
    pix_fmt = "yuvj420p" if one.codec == "mjpeg" else "yuv420p"
    # Matroska and MOV tell not all that is needed to join.
    source = "mp4" if one.parts > 1 and one.codec in ("libx264", "libx265") else one.container
    parts = [
        video(
            source,
            one.codec,
            30 if one.parts > 1 else 60,
            first=30 * part,
            rate=one.rate,
            pix_fmt=pix_fmt,
            times=one.times,
            size=(WIDTH, HEIGHT),
            options=dict(one.options),
        )
        for part in range(one.parts)
    ]
    data = joined(parts, one.container) if one.parts > 1 else parts[0]
    return copied(data, one.container, one.cut) if one.cut else data


def expected_times(one: Case, seconds: Sequence[float | None], fps: float) -> list[float]:
    """AVI has a clock of its own, and it is exact."""
    if one.container == "avi" or None in seconds:
        return [index / fps for index in range(len(seconds))]
    return [float(at) for at in seconds if at is not None]


@pytest.mark.parametrize("number", range(COUNT))
def test_a_random_video_is_what_a_plain_decode_makes_of_it(number: int) -> None:
    one = case(number)
    data = made(one)
    truth = plain(data)
    source = probe_video(data, LIMITS)
    assert source.frames == len(truth), one
    times = expected_times(one, [at for at, _ in truth], source.fps)
    chance = random.Random(number)
    start = chance.uniform(0, times[-1] / 2)
    asked = ({"nframes": 4}, {"nframes": len(truth) // 2 * 2}, {"fps": 2.0, "video_start": start})
    for controls in asked:
        size = {"resized_width": WIDTH, "resized_height": HEIGHT}
        frames, plan = load_video(data, VideoControls(min_frames=None, **controls, **size), LIMITS)
        assert plan.source_frames == len(truth)
        assert plan.damaged_frames == 0, one
        unit = 2e-3 if one.container in ("matroska", "webm", "flv", "asf", "avi", "mpeg") else 1e-3
        for frame, index, at in zip(frames, plan.frame_indices, plan.frame_times, strict=True):
            wanted = resize(truth[index][1], HEIGHT, WIDTH)
            assert np.array_equal(frame, wanted), (one, index)
            assert abs(at - times[index]) <= unit, (one, index, at, times[index])
