"""A video that is asked about again is not looked through again; and what that may take."""

from threading import Event

import numpy as np
import pytest
from blake3 import blake3
from clips import video

from saccade.media import worker
from saccade.media.controls import VideoControls
from saccade.media.fetch.uploaded import UploadedFile
from saccade.media.limits import MediaLimits
from saccade.media.planning.plan import PixelLimits, VideoSource, VisionGeometry
from saccade.media.types import PACKET

FRAMES = 75
SOURCE_BYTES = 1024 + FRAMES * (PACKET.itemsize + 8)


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


@pytest.fixture(scope="module")
def clip() -> bytes:
    return video("mp4", "libx264", FRAMES)


def media_worker() -> worker.MediaWorker:
    return worker.MediaWorker(VisionGeometry(), PixelLimits(), MediaLimits(), 1, 1)


def planned(media: worker.MediaWorker, data: bytes, **controls):
    return media.plan_video(data, VideoControls(**controls), None)


def test_a_file_is_probed_once_whatever_is_asked_of_it(clip, probed):
    media, other = media_worker(), media_worker()
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


def test_the_ones_that_were_used_last_are_kept(clip, probed, monkeypatch):
    monkeypatch.setattr(worker, "_SOURCES_BYTES", 3 * SOURCE_BYTES)
    media = media_worker()
    for more in (0, 1, 2, 0, 3):  # which takes the place of the second
        planned(media, clip + bytes(more))
    for more in (0, 2, 3, 1):
        planned(media, clip + bytes(more))
    assert [size - len(clip) for size in probed] == [0, 1, 2, 3, 1]


def test_what_is_larger_than_all_is_not_kept(clip, probed, monkeypatch):
    monkeypatch.setattr(worker, "_SOURCES_BYTES", SOURCE_BYTES - 1)
    media = media_worker()
    assert planned(media, clip) == planned(media, clip)
    assert probed == [len(clip)] * 2


def test_an_uploaded_file_is_not_read_again_until_it_is_decoded(clip, probed, tmp_path):
    path = tmp_path / "clip"
    path.write_bytes(clip)
    read: list[int] = []

    class Counted(UploadedFile):
        def read(self) -> bytes:
            read.append(len(self))
            return super().read()

    def opened() -> UploadedFile:
        return Counted(path, blake3(clip).digest())

    media = media_worker()
    first = planned(media, opened())
    assert read == probed == [len(clip)]
    again = planned(media, opened(), fps=4.0)
    path.unlink()  # what is open goes on
    assert read == [len(clip)]
    assert again.encoded_bytes == len(clip)
    inline = planned(media, clip, fps=4.0)
    assert again.digest == inline.digest != first.digest
    frames, expected = (media.decode_video(one, 1, Event()).frames for one in (again, inline))
    np.testing.assert_array_equal(frames, expected)
    assert read == [len(clip)] * 2
