"""A video that is asked about again is not looked through again; and what that may take."""

import numpy as np
import pytest
from clips import video

from saccade.media import worker
from saccade.media.controls import VideoControls
from saccade.media.limits import MediaLimits
from saccade.media.memory.source_cache import SourceCache
from saccade.media.planning.plan import PixelLimits, VideoSource, VisionGeometry
from saccade.media.types import PACKET

PACKETS = np.zeros(1000, PACKET)
SOURCE = VideoSource(28, 28, 1000, 25.0, packets=PACKETS)


@pytest.fixture
def probed(monkeypatch) -> list[int]:
    """The size of each file that was probed."""
    sizes: list[int] = []
    probe = worker.probe_video

    def counted(data: bytes, limits: MediaLimits) -> VideoSource:
        sizes.append(len(data))
        return probe(data, limits)

    monkeypatch.setattr(worker, "probe_video", counted)
    return sizes


def planned(media: worker.MediaWorker, data: bytes, **controls):
    return media.plan_video(data, VideoControls(**controls), None)


def test_a_file_is_probed_once_whatever_is_asked_of_it(probed):
    clip = video("mp4", "libx264", 75)
    limits = MediaLimits()
    media, other = (
        worker.MediaWorker(VisionGeometry(), PixelLimits(), limits, 1, 1, lambda *_: None)
        for _ in range(2)
    )
    first, again, faster = (
        planned(media, clip),
        planned(media, bytes(bytearray(clip))),
        planned(media, clip, fps=4.0),
    )
    assert probed == [len(clip)]
    assert again == first
    assert faster.plan == planned(other, clip, fps=4.0).plan != first.plan
    assert faster.digest != first.digest
    planned(media, clip + b"\0")
    assert probed == [len(clip), len(clip), len(clip) + 1]


def test_the_ones_that_were_used_last_are_kept():
    cache = SourceCache(3 * (PACKETS.nbytes + 8 * 1000 + 1024))
    for name in (b"a", b"b", b"c"):
        cache.put(name, SOURCE)
    assert cache.get(b"a") is SOURCE
    cache.put(b"d", SOURCE)
    assert [cache.get(name) is SOURCE for name in (b"a", b"b", b"c", b"d")] == [
        True,
        False,
        True,
        True,
    ]


def test_what_is_larger_than_all_is_not_kept():
    cache = SourceCache(1024)
    cache.put(b"a", SOURCE)
    assert cache.get(b"a") is None
