"""Pictures of each kind, decoded back, and which kind a terminal gets; boxes at their pixels."""

import base64
import io
import re
from itertools import product

import pytest
from PIL import Image

from saccade.server.cli import main
from saccade.server.commands.chat.attachments import data_url, picture_of
from saccade.server.commands.chat.output import printable
from saccade.server.commands.chat.pictures import blocks, choose, draw, kitty, sixel

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (250, 250, 10), (9, 99, 199))


def striped(width: int, height: int) -> Image.Image:
    """Every pixel tells its place by its colour."""
    image = Image.new("RGB", (width, height))
    image.putdata(
        [COLOURS[(x + 2 * y) % len(COLOURS)] for y in range(height) for x in range(width)]
    )
    return image


def from_blocks(text: str) -> list[list[tuple[int, ...] | None]]:
    """Rows of pixels; None: the terminal's own ground."""
    rows: list[list[tuple[int, ...] | None]] = []
    for line in text.split("\n"):
        assert line.endswith("\x1b[0m")
        cells = re.findall(r"\x1b\[38;2;(\d+);(\d+);(\d+);(?:49|48;2;(\d+);(\d+);(\d+))m▀", line)
        assert "".join(re.findall(r"[^\x1b]", re.sub(r"\x1b\[[\d;]*m", "", line))) == "▀" * len(
            cells
        )
        rows.append([tuple(map(int, cell[:3])) for cell in cells])
        rows.append([tuple(map(int, cell[3:])) if cell[3] else None for cell in cells])
    return rows


def from_sixel(text: str) -> Image.Image:
    """What a terminal draws (DEC STD 070), for a picture that sets all of its pixels."""
    head = re.match(r'\x1bP0;1q"1;1;(\d+);(\d+)', text)
    assert head is not None
    assert text.endswith("\x1b\\")
    image = Image.new("RGB", (int(head[1]), int(head[2])))
    palette: dict[str, tuple[int, ...]] = {}
    x = top = 0
    colour = ""
    token = re.compile(r"#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|!(\d+)([?-~])|([?-~])|(\$)|(-)")
    place, end = head.end(), len(text) - 2
    while place < end:
        found = token.match(text, place)
        assert found is not None, text[place : place + 20]
        place = found.end()
        if found[1]:
            palette[found[1]] = tuple(map(int, found.group(2, 3, 4)))
        elif found[5]:
            colour = found[5]
        elif found[9]:
            x = 0
        elif found[10]:
            x, top = 0, top + 6
        else:
            length, bits = int(found[6] or 1), ord(found[7] or found[8]) - 63
            for column, row in product(range(x, x + length), range(6)):
                if bits >> row & 1:
                    image.putpixel((column, top + row), palette[colour])
            x += length
    return image


@pytest.mark.parametrize("size", [(5, 4), (7, 3), (1, 1)])
def test_half_blocks_hold_every_pixel(size):
    image = striped(*size)
    rows = from_blocks(blocks(image))
    for y in range(size[1]):
        assert rows[y] == [image.getpixel((x, y)) for x in range(size[0])]
    assert all(pixel is None for row in rows[size[1] :] for pixel in row)


@pytest.mark.parametrize("size", [(5, 12), (40, 13), (1, 1)])
def test_sixel_holds_every_pixel(size):
    image = striped(*size)
    drawn = from_sixel(sixel(image))
    assert drawn.size == size
    for place in ((x, y) for x in range(size[0]) for y in range(size[1])):
        percent = [round(part / 2.55) for part in image.getpixel(place)]
        assert list(drawn.getpixel(place)) == percent


def test_sixel_counts_repetitions():
    assert sixel(Image.new("RGB", (90, 6), "red")).count("~") == 1


def test_kitty_holds_a_png_in_chunks():
    image = Image.effect_noise((90, 80), 90).convert("RGB")
    chunks = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", kitty(image))
    assert "".join(f"\x1b_G{keys};{data}\x1b\\" for keys, data in chunks) == kitty(image)
    assert len(chunks) > 2
    assert chunks[0][0] == "a=T,f=100,q=2,m=1"
    assert {keys for keys, _ in chunks[1:-1]} == {"m=1"}
    assert chunks[-1][0] == "m=0"
    assert all(len(data) <= 4096 and len(data) % 4 == 0 for _, data in chunks)
    png = base64.b64decode("".join(data for _, data in chunks))
    assert Image.open(io.BytesIO(png)).tobytes() == image.tobytes()


def test_pictures_are_small_and_keep_their_shape():
    image = Image.new("RGB", (4000, 1000), "red")
    assert [len(row) for row in from_blocks(draw(image, "blocks")[:-1])] == [40] * 10
    assert from_sixel(draw(image, "sixel")[:-1]).size == (400, 100)
    assert draw(image, "none") == ""
    assert from_sixel(draw(Image.new("RGB", (9, 5)), "sixel")[:-1]).size == (9, 5)


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({}, "none"),
        ({"TERM": "xterm-256color"}, "none"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "blocks"),
        ({"TERM": "xterm-kitty", "COLORTERM": "truecolor"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "foot-extra"}, "sixel"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "sixel"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1", "COLORTERM": "24bit"}, "blocks"),
        ({"TERM": "xterm-kitty", "NO_COLOR": "1"}, "none"),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, "none"),
    ],
)
def test_the_kind_is_chosen_by_the_environment(environment, kind):
    assert choose(environment) == kind


def test_the_picture_is_upright_and_on_white(tmp_path):
    image = Image.new("RGBA", (4, 2), (0, 0, 0, 0))
    image.putpixel((0, 0), (255, 0, 0, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    part = {"type": "image_url", "image_url": {"url": data_url("image/png", file.getvalue())}}
    upright = picture_of(part)
    assert (upright.mode, upright.size) == ("RGB", (2, 4))
    assert upright.getpixel((1, 0)) == (255, 0, 0)
    assert upright.getpixel((0, 0)) == (255, 255, 255)


def test_printable():
    assert printable("a\tb\nü 日本 👩‍💻\xa0.") == "a    b\nü 日本 👩‍💻\xa0."
    assert printable("\x1b[31m\r\x7f\x9b\u2028\u202e\ud800") == "·[31m······"


@pytest.fixture
def locate(chat_server, tmp_path, capsys, monkeypatch):
    """Asks about images of 200 x 100 grey pixels; what is told, and the drawing or None."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def run(images=1):
        found, grey = tmp_path / "found.png", tmp_path / "grey.png"
        Image.new("RGB", (200, 100), "grey").save(grey)
        attached = ["--image", str(grey)] * images
        flags = ("--url", chat_server.url, *attached, "--boxes", str(found))
        assert main(["chat", *flags, "Locate."]) == 0
        drawing = Image.open(found).convert("RGB") if found.exists() else None
        return capsys.readouterr().err, drawing

    return run


def red_box(drawing):
    """The bounds of all that is pure red."""
    mask = Image.new("1", drawing.size)
    red = [drawing.getpixel((x, y)) == (255, 0, 0) for y in range(100) for x in range(200)]
    mask.putdata([255 * each for each in red])
    return mask.getbbox()


def test_boxes_of_a_saccade_are_in_pixels_of_the_image_as_sent(locate, chat_server):
    chat_server.pieces = ('[{"bbox_2d": [1, 1, 2, 2]}]',)
    chat_server.vision = {
        "detections": [
            {"choice": 0, "label": None, "bbox_2d": [20.0, 10.0, 80.0, 60.0], "image": 1},
            {"choice": 0, "label": None, "bbox_2d": [90.0, 0.0, 199.0, 99.0], "image": 0},
            {"choice": 0, "label": None, "bbox_2d": ["90", 0, 199, 99], "image": 1},
            "no detection",
        ]
    }
    told, drawing = locate(images=2)
    assert chat_server.bodies[0]["vision"] == {"coordinates": "source", "history": "source"}
    assert drawing.size == (200, 100)
    assert red_box(drawing) == (20, 10, 81, 61)
    assert drawing.getpixel((50, 30)) == (128, 128, 128)
    assert "[1 drawn: " in told


def test_boxes_of_others_are_as_they_are(locate, chat_server):
    chat_server.pieces = ('```json\n[{"bbox_2d": [30, 20, 90, 999999999], "label": ""}]\n```',)
    told, drawing = locate()
    assert "vision" not in chat_server.bodies[0]
    assert red_box(drawing) == (30, 20, 91, 100)  # within the image
    assert "the server is no Saccade" in told


def test_points(locate, chat_server):
    chat_server.pieces = ('{"point_2d": [50, 40]}',)
    _, drawing = locate()
    left, top, right, bottom = red_box(drawing)
    assert (left + right - 1) / 2 == 50
    assert (top + bottom - 1) / 2 == 40
    assert right - left < 12


def test_an_answer_without_boxes(locate):
    told, drawing = locate()
    assert drawing is None
    assert "[no boxes in the answer]" in told
