"""Clips whose headers lie: counts, sizes, times, and whole files of nothing."""

import re
import struct
import zlib
from itertools import product

from hostile_samples import encode_clip, encoded, real_clips
from PIL import Image


def patched(data: bytes, box: bytes, offset: int, fields: str, *values: int) -> bytes:
    """The first box of this name with other fields, ``offset`` bytes behind its name."""
    start = data.index(box) + 4 + offset
    return data[:start] + struct.pack(fields, *values) + data[start + struct.calcsize(fields) :]


def box(name: bytes, body: bytes) -> bytes:
    """One MP4 box."""
    return struct.pack(">I", 8 + len(body)) + name + body


def announcing(samples: int) -> bytes:
    """An MP4 of a few frames that announces samples of one byte, all in one chunk."""
    clip = patched(real_clips()["mp4"], b"stsz", 4, ">II", 1, samples)
    clip = patched(clip, b"stsc", 8, ">III", 1, samples, 1)
    return patched(clip, b"stts", 8, ">II", samples, 1)


def mp4s() -> dict[str, bytes]:
    real = real_clips()["mp4"]
    fragments = real_clips()["mp4-fragments"]
    swelling = struct.pack(">I", 100_000_008) + zlib.compress(box(b"free", bytes(100_000_000)), 9)
    packed = box(b"cmov", box(b"dcom", b"zlib") + box(b"cmvd", swelling))
    nested = b""
    for _ in range(5000):
        nested = box(b"moov", nested)
    return {
        "mp4-of-50000000-samples": announcing(50_000_000),
        "mp4-of-170000000-samples": announcing(170_000_000),
        "mp4-fragment-of-50000000-samples": patched(
            fragments, b"trun", 0, ">III", 1, 50_000_000, 200
        ),
        "mp4-table-longer-than-file": patched(real, b"stsz", 8, ">I", 2**31),
        "mp4-samples-of-2147483648-bytes": patched(real, b"stsz", 12, ">I", 2**31),
        "mp4-packed-header": box(b"ftyp", b"qt  \0\0\0\0") + box(b"moov", packed),
        "mp4-5000-deep": box(b"ftyp", b"isom\0\0\2\0") + nested,
        "mp4-duration-of-all-frames-0": patched(real, b"stts", 8, ">II", 8, 0),
        "mp4-duration-negative": patched(real, b"stts", 8, ">II", 8, 2**32 - 1),
        "mp4-duration-counts-2147483648": patched(real, b"stts", 8, ">II", 2**31, 1),
        "mp4-clock-of-0": patched(real, b"mdhd", 12, ">I", 0),
        "mp4-clock-of-4294967295": patched(real, b"mdhd", 12, ">I", 2**32 - 1),
        "mp4-clip-of-136-years": patched(
            patched(real, b"mdhd", 12, ">I", 1), b"stts", 8, ">II", 8, 2**29
        ),
        "mp4-movie-clock-of-0": patched(real, b"mvhd", 12, ">I", 0),
        "mp4-edit-of-no-length": patched(real, b"elst", 8, ">Ii", 0, 0),
        "mp4-edit-behind-the-end": patched(real, b"elst", 8, ">Ii", 2**31, 2**31 - 1),
        "mp4-track-of-65535-squared": patched(real, b"tkhd", 76, ">II", 2**32 - 1, 2**32 - 1),
        "mp4-frames-of-65535-squared": patched(real, b"avc1", 24, ">HH", 65_535, 65_535),
        "mp4-chunks-behind-the-end": patched(real, b"stco", 8, ">I", 2**32 - 1),
        "mp4-of-4294967295-chunks": patched(real, b"stco", 4, ">I", 2**32 - 1),
        "mp4-header-of-2-to-the-63": box(b"ftyp", b"isom\0\0\2\0")
        + struct.pack(">I4sQ", 1, b"moov", 2**63),
        "mp4-nothing-in-it": box(b"ftyp", b"isom\0\0\2\0") + box(b"moov", b""),
    }


def mkvs() -> dict[str, bytes]:
    """Matroska's numbers may be floats: lengths that are no lengths."""
    real = real_clips()["mkv"]
    duration = real.index(b"\x44\x89\x88") + 3
    scale = real.index(b"\x2a\xd7\xb1\x83") + 4
    default = real.index(b"\x23\xe3\x83\x84") + 4
    made = {}
    for value in (float("nan"), float("inf"), float("-inf"), -1.0, 0.0, 1e300, 5e-324):
        made[f"mkv-lasting-{value}"] = (
            real[:duration] + struct.pack(">d", value) + real[duration + 8 :]
        )
    for ticks in (0, 1, 2**24 - 1):
        made[f"mkv-ticks-of-{ticks}-ns"] = (
            real[:scale] + ticks.to_bytes(3, "big") + real[scale + 3 :]
        )
    for nanoseconds in (0, 1, 2**32 - 1):
        made[f"mkv-frames-of-{nanoseconds}-ns"] = (
            real[:default] + nanoseconds.to_bytes(4, "big") + real[default + 4 :]
        )
    made["mkv-only-its-first-bytes"] = real[:64]
    return made


def avis() -> dict[str, bytes]:
    real = real_clips()["avi-mjpeg"]
    rate = real.index(b"strh") + 8 + 20
    made = {}
    for scale, ticks in product((0, 1, 2**32 - 1), repeat=2):
        made[f"avi-rate-{ticks}-by-{scale}"] = (
            real[:rate] + struct.pack("<II", scale, ticks) + real[rate + 8 :]
        )
    made["avi-frames-of-4294967295-bytes"] = real.replace(b"00dc", b"00dc\xff\xff\xff\xff", 2)
    return made


def with_jpeg_frames(clip: bytes, width: int, height: int) -> bytes:
    """A clip of JPEGs, all of which claim another size."""
    claim = struct.pack(">HH", height, width)
    return re.sub(rb"(\xff\xc0\x00\x11\x08)....", lambda m: m[1] + claim, clip, flags=re.DOTALL)


def frames_that_lie() -> dict[str, bytes]:
    """Frames larger than their container says, which only the decoder sees."""
    avi, mkv = real_clips()["avi-mjpeg"], encode_clip("matroska", "mjpeg")
    return {
        "avi-frames-of-16000-squared": with_jpeg_frames(avi, 16_000, 16_000),
        "mkv-frames-of-16000-squared": with_jpeg_frames(mkv, 16_000, 16_000),
        "mkv-frames-of-65500-squared": with_jpeg_frames(mkv, 65_500, 65_500),
    }


def gif_of(frames: int, side: int) -> bytes:
    """A GIF whose frames each change a few pixels of a large picture."""
    still = encoded(Image.new("P", (8, 8)), "GIF")
    start = still.index(b"\x2c")
    frame = b"\x21\xf9\x04\x00\x0a\x00\x00\x00" + still[start:-1]
    screen = struct.pack("<HH", side, side)
    return still[:6] + screen + still[10:start] + frame * frames + b"\x3b"


def hostile_videos() -> dict[str, bytes]:
    """All of them by name."""
    short = {
        f"{name}-of-{count}-frames": encode_clip(container, codec, count)
        for count in (0, 1)
        for name, container, codec in (
            ("mp4", "mp4", "libx264"),
            ("mov", "mov", "libx264"),
            ("mkv", "matroska", "libx264"),
            ("webm", "webm", "libvpx"),
            ("avi", "avi", "mpeg4"),
        )
    }
    gifs = {
        "gif-of-0-frames": gif_of(0, 64),
        "gif-of-1-frames": gif_of(1, 64),
        "gif-of-65535-squared": gif_of(10, 65_535),
        "gif-of-30000-frames": gif_of(30_000, 8),
        "gif-of-200-large-frames": gif_of(200, 1900),
    }
    others = {"avi-of-another-codec": encode_clip("avi", "ffvhuff")}
    return others | mp4s() | mkvs() | avis() | frames_that_lie() | short | gifs
