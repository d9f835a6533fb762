"""Elements of Matroska and WebM are counted wherever FFmpeg would make entries of them."""

import pytest
from real_files import FRAMES, real_clips

from saccade.media.decode.matroska_limits import check_matroska_elements
from saccade.media.decode.probe import probe_video
from saccade.media.errors import LimitError
from saccade.media.limits import MediaLimits

EBML = b"\x1a\x45\xdf\xa3"
SEGMENT, CLUSTER = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"
UNKNOWN = b"\x01" + b"\xff" * 7
LISTS = {
    "tracks": (b"\x16\x54\xae\x6b", b"\xae\x80"),
    "cues": (b"\x1c\x53\xbb\x6b", b"\xbb\x80"),
    "attachments": (b"\x19\x41\xa4\x69", b"\x61\xa7\x80"),
    "chapters": (b"\x10\x43\xa7\x70", b"\x45\xb9\x80"),
    "tags": (b"\x12\x54\xc3\x67", b"\x73\x73\x80"),
    "seeks": (b"\x11\x4d\x9b\x74", b"\x4d\xbb\x80"),
    "block additions": (CLUSTER, b"\xa0\x85\x75\xa1\x82\xa6\x80"),
}


def sized(name: bytes, payload: bytes) -> bytes:
    return name + b"\x01" + len(payload).to_bytes(7, "big") + payload


def with_inserted(clip: bytes, inserted: bytes) -> bytes:
    """The clip with more elements before its first cluster, in a segment of unknown size."""
    segment, cluster = clip.index(SEGMENT) + 4, clip.index(CLUSTER)
    return clip[:segment] + UNKNOWN + clip[segment + 8 : cluster] + inserted + clip[cluster:]


def count(data: bytes) -> int:
    """The lowest limit that a file passes under."""
    most = 0
    while True:
        try:
            check_matroska_elements(data, most)
        except LimitError:
            most += 1
        else:
            return most


@pytest.fixture(scope="module")
def clips() -> dict[str, bytes]:
    return real_clips()


def test_real_clips_have_few(clips: dict[str, bytes]) -> None:
    for name, clip in clips.items():
        check_matroska_elements(clip, 100)
        if name in ("mkv", "webm-vp8", "webm-vp9"):
            assert 20 < count(clip) < 100


@pytest.mark.parametrize("kind", LISTS)
def test_every_list_is_counted(clips: dict[str, bytes], kind: str) -> None:
    before = count(clips["mkv"])
    name, element = LISTS[kind]
    for payload in (element * 3, b"\xec\x81\0" + element * 3):
        grown = with_inserted(clips["mkv"], sized(name, payload))
        assert count(grown) >= before + 3


def test_a_list_is_counted_wherever_it_stands() -> None:
    name, element = LISTS["cues"]
    listed = sized(name, element * 3)
    assert count(EBML + listed) == 3
    assert count(EBML + sized(SEGMENT, listed)) == 3
    assert count(EBML + sized(b"\xec", b"\0\0" + listed)) == 3
    assert count(listed) == 0  # no Matroska


def test_clusters_of_unknown_size_are_counted_once(clips: dict[str, bytes]) -> None:
    blocks = b"\xa3\x84\x81\0\0\x80" * 5
    live = with_inserted(clips["mkv"], (CLUSTER + UNKNOWN + blocks) * 4)
    assert 20 <= count(live) < 20 + 2 * count(clips["mkv"])


def test_a_video_of_too_many_is_refused(clips: dict[str, bytes]) -> None:
    """Though its frames are few enough."""
    with pytest.raises(LimitError, match="more than 20 elements"):
        probe_video(clips["webm-vp9"], MediaLimits(max_source_frames=10))
    assert probe_video(clips["webm-vp9"], MediaLimits(max_source_frames=50)).frames == FRAMES
