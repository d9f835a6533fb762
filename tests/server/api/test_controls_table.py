"""Every control in every spelling on both routes: honoured, and how that shows, or refused by name.

The table is docs/controls.md, which is read as documentation and compared here. To write it anew:

    WRITE_CONTROLS=1 .venv/bin/pytest -n 0 tests/server/api/test_controls_table.py
"""

import io
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

TABLE = Path(__file__).parents[3] / "docs" / "controls.md"

# An image of 560 x 560 pixels; videos and listed frames of 448 x 336, 24 frames at 8 a second.
SIDE, WIDTH, HEIGHT, FRAMES, RATE = 560, 448, 336, 24, 8

# Row: what is requested of an image, and of a video where another value is needed.
ROWS = [
    ({"min_pixels": 400_000}, {"min_pixels": 200_000}),
    ({"max_pixels": 110_000},),
    ({"resized_width": 224, "resized_height": 168},),
    ({"detail": "low"},),
    ({"fps": 4.0},),
    ({"nframes": 4},),
    ({"min_frames": 8},),
    ({"max_frames": 4},),
    ({"video_start": 1.0},),
    ({"video_end": 2.0},),
    ({"total_pixels": 220_000},),
    ({"sample_fps": 1.0},),
    ({"raw_fps": 30.0},),
    ({"sampling": "time"},),
    ({"square_pixels": True},),
    ({"max_pixels": 0},),
    ({"max_pixels": "110000"},),
    ({"resized_width": 224},),
    ({"fps": 4.0, "nframes": 4},),
    ({"maximum_pixels": 110_000},),
]

# Where an effect can show, the most telling first.
SEEN = ("resized_size", "frame_times", "sampled_fps", "source_fps")


def beside(kind, key):
    return lambda medium, controls: {"type": kind, key: medium, **controls}


def inside(kind, key):
    return lambda medium, controls: {"type": kind, key: {"url": medium, **controls}}


SPELLINGS = {
    "`image_url`": ("image", beside("image_url", "image_url")),
    "in `image_url`": ("image", inside("image_url", "image_url")),
    "`image`": ("image", beside("image", "image")),
    "`input_image`": ("image", beside("input_image", "image_url")),
    "`video_url`": ("video", beside("video_url", "video_url")),
    "in `video_url`": ("video", inside("video_url", "video_url")),
    "`video`": ("video", beside("video", "video")),
    "`input_video`": ("video", beside("input_video", "video_url")),
    "`video`, frames": ("frames", beside("video", "video")),
}


@pytest.fixture(scope="module")
def media(image_url, data_url):
    buffer = io.BytesIO()
    with av.open(buffer, "w", "mp4") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        for number in range(FRAMES):
            pixels = np.full((HEIGHT, WIDTH, 3), 10 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())
    frames = [image_url(WIDTH, HEIGHT, colour) for colour in ("red", "green", "blue", "white")]
    return {
        "image": image_url(SIDE, SIDE),
        "video": data_url(buffer.getvalue(), "video/mp4"),
        "frames": frames,
    }


@pytest.fixture(scope="module")
def outcome(server):
    """What a part comes to: its report, or the error with the path inside the part."""

    def ask(path, field, limit, part):
        body = {
            "model": "demo",
            limit: 1,
            field: [{"role": "user", "content": [part]}],
            "vision": {"report": True},
        }
        answer = server.post(body, path)
        if answer.status_code == 200:
            return answer.json()["vision"]["media"][0]
        error = answer.json()["error"]
        place = error["param"].removeprefix(f"{field}[0].content[0]").removeprefix(".")
        return f"{answer.status_code} `{place}`"

    def both(part):
        chat = ask("/v1/chat/completions", "messages", "max_tokens", part)
        response = ask("/v1/responses", "input", "max_output_tokens", part)
        if isinstance(chat, dict):
            chat.pop("path")
            response.pop("path")
        assert chat == response
        return chat

    return both


def effect(report, plain):
    """The first thing in which a report differs from that of the same part without controls."""
    for name in SEEN:
        if name in plain and report[name] != plain[name]:
            value = report[name]
            if name == "resized_size":
                return "{} x {}".format(*value)
            if name == "frame_times":
                return f"{len(value)} frames, {value[0]:g} to {value[-1]:g} s"
            return f"{name} {value:g}"
    return "NO EFFECT"


@pytest.fixture(scope="module")
def table(media, outcome):
    lines = [
        "| asked | " + " | ".join(SPELLINGS) + " |",
        "| --- " * (len(SPELLINGS) + 1) + "|",
    ]
    plain = {name: outcome(make(media[kind], {})) for name, (kind, make) in SPELLINGS.items()}
    for row in ROWS:
        cells = []
        for name, (kind, make) in SPELLINGS.items():
            controls = row[0] if kind == "image" else row[-1]
            given = outcome(make(media[kind], controls))
            cells.append(given if isinstance(given, str) else effect(given, plain[name]))
        asked = " or ".join(
            ", ".join(f"`{name}: {value!r}`" for name, value in controls.items())
            for controls in row
        )
        lines.append(f"| {asked} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


INTRODUCTION = f"""# Controls

What each control does in each spelling, seen in the answers of a running server: how the report
differs from that of the same part without the control, or the status of the refusal and the path of
the field that it names, inside the part. `POST /v1/chat/completions` and `POST /v1/responses` gave
the same in every cell. The image has {SIDE} x {SIDE} pixels; the video has {FRAMES} frames of
{WIDTH} x {HEIGHT} pixels twice as wide as high, {RATE} a second; the list has four frames. `in`
means inside the object that holds the URL, other columns have the control beside the type. Where a
row gives two values, the second is for videos.

`tests/server/api/test_controls_table.py` makes this table and compares it with every run.

"""


def test_the_table_in_the_documentation_is_what_the_server_does(table):
    if os.environ.get("WRITE_CONTROLS"):
        TABLE.write_text(INTRODUCTION + table)
    assert TABLE.read_text() == INTRODUCTION + table


def test_no_control_is_silently_ignored(table):
    assert "NO EFFECT" not in table
    # A control of another medium, a wrong value and a wrong name are all refused.
    assert table.count("| 400 `") > table.count(" x ")
