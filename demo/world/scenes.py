"""Images of coloured shapes and printed text, drawn from a seed: what the demo model learns on.

Everything is a pure function of the random generator handed in, at any size in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from saccade.demo.world.backgrounds import background

Pixels = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels

COLOURS = {
    "red": (222, 38, 38),
    "orange": (246, 138, 20),
    "yellow": (246, 222, 50),
    "green": (38, 160, 60),
    "blue": (40, 84, 214),
    "purple": (142, 50, 172),
    "white": (250, 250, 250),
    "black": (18, 18, 18),
}
KINDS = ("circle", "square", "triangle", "star", "cross")
WORDS = (
    *("OPEN", "EXIT", "STOP", "TAXI", "CAFE", "BANK", "PARK", "HOTEL", "SALE", "MENU", "NORTH"),
    *("SOUTH", "EAST", "WEST", "FIRE", "GATE", "LIFT", "ROOM", "TEA", "ZOO", "JAZZ", "QUIZ"),
    *("VIP", "BUS", "KEY", "ICE", "DESK", "FOOD", "MILK", "WIND", "SHOP", "ECHO", "WAVE"),
    *("LUCKY", "PIXEL"),
)
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_COLOUR_JITTER = 10
_LEAST_CONTRAST = 95.0  # Euclidean distance in RGB between a thing and what lies behind it
_LEAST_BRIGHTNESS_STEP = 70.0  # between text and what lies behind it, of 255
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_SUPERSAMPLING = 4
_GAP = 3.0  # pixels between two things
_SMALLEST, _LARGEST = 11.0, 34.0  # radius of a thing in pixels
_TEXT_SIZES = (20, 34)  # pixels
_PITCH = 14  # least pixels from one character to the next: a patch
_LINE = 28  # least pixels from the middle of one text to that of another: a cell


def _star() -> list[tuple[float, float]]:
    angles = np.pi * (np.arange(10) / 5 - 0.5)
    radii = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
    xs, ys = radii * np.cos(angles), radii * np.sin(angles)
    return [(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]


# Outlines in units of the radius; a circle is drawn as an ellipse.
_OUTLINES: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    "triangle": [(0.0, -1.0), (1.0, 0.9), (-1.0, 0.9)],
    "star": _star(),
    "cross": [
        *((-0.34, -1.0), (0.34, -1.0), (0.34, -0.34), (1.0, -0.34), (1.0, 0.34), (0.34, 0.34)),
        *((0.34, 1.0), (-0.34, 1.0), (-0.34, 0.34), (-1.0, 0.34), (-1.0, -0.34), (-0.34, -0.34)),
    ],
}


@dataclass(frozen=True)
class Thing:
    """A shape: centre and radius in pixels."""

    kind: str
    colour: str
    x: float
    y: float
    radius: float
    paint: tuple[int, int, int]

    @property
    def label(self) -> str:
        """As a question names it, e.g. ``red circle``."""
        return f"{self.colour} {self.kind}"

    @property
    def box(self) -> Box:
        """The tight bounding box."""
        outline = _OUTLINES.get(self.kind, [(-1.0, -1.0), (1.0, 1.0)])
        xs, ys = zip(*outline, strict=True)
        return (
            self.x + self.radius * min(xs),
            self.y + self.radius * min(ys),
            self.x + self.radius * max(xs),
            self.y + self.radius * max(ys),
        )


@dataclass(frozen=True)
class Text:
    """Printed text: the characters and the box of each."""

    string: str
    characters: tuple[Box, ...]
    font: int
    size: int
    paint: tuple[int, int, int]

    @property
    def box(self) -> Box:
        """Around all characters."""
        x1, y1, x2, y2 = zip(*self.characters, strict=True)
        return min(x1), min(y1), max(x2), max(y2)


@dataclass(frozen=True)
class Scene:
    """What is in an image; boxes in its own pixels."""

    width: int
    height: int
    things: tuple[Thing, ...]
    texts: tuple[Text, ...]
    backdrop: Pixels  # [height, width, 3]


def paint_of(colour: str, rng: np.random.Generator) -> tuple[int, int, int]:
    """A shade of the named colour."""
    shifts = rng.integers(-_COLOUR_JITTER, _COLOUR_JITTER + 1, 3).tolist()
    red, green, blue = (
        min(255, max(0, value + shift))
        for value, shift in zip(COLOURS[colour], shifts, strict=True)
    )
    return red, green, blue


def make_scene(
    rng: np.random.Generator,
    width: int,
    height: int,
    things: int,
    texts: Sequence[str] = (),
    distinct: bool = False,
) -> Scene:
    """A scene with up to so many things and texts; fewer where there is no room.

    Args:
        texts: printed first, so that they get their room.
        distinct: no two things of one kind or of one colour.
    """
    backdrop = background(rng, width, height)
    written: list[Text] = []
    for string in texts:
        text = _place_text(rng, backdrop, string, [_line_of(other) for other in written])
        if text is not None:
            written.append(text)
    taken = [text.box for text in written]
    placed: list[Thing] = []
    for _ in range(things):
        thing = place_thing(rng, backdrop, taken, placed if distinct else [])
        if thing is not None:
            placed.append(thing)
            taken.append(thing.box)
    return Scene(width, height, tuple(placed), tuple(written), backdrop)


def place_thing(
    rng: np.random.Generator,
    backdrop: Pixels,
    taken: list[Box],
    unlike: list[Thing],
) -> Thing | None:
    """A thing that touches none of the boxes and stands out from the backdrop, or None."""
    height, width = backdrop.shape[:2]
    for _ in range(30):
        kind = KINDS[rng.integers(len(KINDS))]
        colour = list(COLOURS)[rng.integers(len(COLOURS))]
        if any(kind == other.kind or colour == other.colour for other in unlike):
            continue
        largest = min(_LARGEST, 0.34 * min(width, height))
        radius = float(rng.uniform(min(_SMALLEST, largest), largest))
        x = float(rng.uniform(radius + 1, width - radius - 1))
        y = float(rng.uniform(radius + 1, height - radius - 1))
        thing = Thing(kind, colour, x, y, radius, COLOURS[colour])
        edges = thing.box
        if any(_touch(edges, box) for box in taken):
            continue
        thing = recoloured(thing, colour, rng)
        if _contrast(backdrop, edges, thing.paint) >= _LEAST_CONTRAST:
            return thing
    return None


def random_text(rng: np.random.Generator) -> str:
    """A number of one to four digits, or a short word."""
    if rng.random() < 0.5:
        digits = int(rng.integers(1, 5))
        return "".join(str(digit) for digit in rng.integers(0, 10, digits))
    return WORDS[rng.integers(len(WORDS))]


def random_string(rng: np.random.Generator) -> str:
    """One to six letters and digits of any kind: nothing that can be guessed."""
    return "".join(ALPHABET[index] for index in rng.integers(0, len(ALPHABET), rng.integers(1, 7)))


def draw(scene: Scene) -> Pixels:
    """The image, uint8 RGB ``[height, width, 3]``."""
    image = Image.fromarray(scene.backdrop.copy())
    for thing in scene.things:
        _draw_thing(image, thing)
    pen = ImageDraw.Draw(image)
    for text in scene.texts:
        font = _font(text.font, text.size)
        for character, box in zip(text.string, text.characters, strict=True):
            left, top, _, _ = _extent(text.font, text.size, character)
            pen.text((box[0] - left, box[1] - top), character, fill=text.paint, font=font)
    return np.array(image)


def recoloured(thing: Thing, colour: str, rng: np.random.Generator) -> Thing:
    """The same thing in another colour."""
    return replace(thing, colour=colour, paint=paint_of(colour, rng))


def _draw_thing(image: Image.Image, thing: Thing) -> None:
    x1, y1, x2, y2 = (int(np.floor(value)) for value in thing.box)
    width, height = x2 - x1 + 2, y2 - y1 + 2
    mask = Image.new("L", (width * _SUPERSAMPLING, height * _SUPERSAMPLING))
    pen = ImageDraw.Draw(mask)
    if thing.kind == "circle":
        corners = [
            (edge - origin) * _SUPERSAMPLING
            for edge, origin in zip(thing.box, (x1, y1) * 2, strict=True)
        ]
        pen.ellipse(corners, fill=255)
    else:
        outline = [
            (
                (thing.x + thing.radius * x - x1) * _SUPERSAMPLING,
                (thing.y + thing.radius * y - y1) * _SUPERSAMPLING,
            )
            for x, y in _OUTLINES[thing.kind]
        ]
        pen.polygon(outline, fill=255)
    image.paste(thing.paint, (x1, y1), mask.resize((width, height), Image.Resampling.BOX))


def _place_text(
    rng: np.random.Generator, backdrop: Pixels, string: str, taken: list[Box]
) -> Text | None:
    height, width = backdrop.shape[:2]
    for _ in range(20):
        number = int(rng.integers(len(_fonts())))
        size = round(float(rng.uniform(*_TEXT_SIZES)))
        boxes: list[Box] = []
        x = 0.0
        for character in string:
            left, top, right, bottom = _extent(number, size, character)
            boxes.append((x, top, x + right - left, bottom))
            x += max(right - left + 2, _PITCH)
        right_edge = boxes[-1][2]
        top_edge, bottom_edge = min(box[1] for box in boxes), max(box[3] for box in boxes)
        if right_edge + 4 > width or bottom_edge - top_edge + 4 > height:
            continue
        shift_x = int(rng.integers(2, width - int(right_edge) - 1))
        shift_y = int(rng.integers(2, height - int(bottom_edge - top_edge) - 1)) - top_edge
        placed = tuple((a + shift_x, b + shift_y, c + shift_x, d + shift_y) for a, b, c, d in boxes)
        paint = COLOURS[("black", "white", "blue", "red", "yellow")[rng.integers(5)]]
        text = Text(string, placed, number, size, paint)
        if any(_touch(_line_of(text), other) for other in taken):
            continue
        if _legible(backdrop, text.box, paint):
            return text
    return None


def _line_of(text: Text) -> Box:
    """The room that a text takes from other texts, so that no two share a row of cells."""
    x1, y1, x2, y2 = text.box
    more = max(0.0, (_LINE - (y2 - y1)) / 2)
    return x1, y1 - more, x2, y2 + more


def _touch(one: Box, other: Box) -> bool:
    return (
        one[0] < other[2] + _GAP
        and other[0] < one[2] + _GAP
        and one[1] < other[3] + _GAP
        and other[1] < one[3] + _GAP
    )


def _contrast(backdrop: Pixels, box: Box, paint: tuple[int, int, int]) -> float:
    x1, y1, x2, y2 = (max(0, round(value)) for value in box)
    behind = backdrop[y1 : y2 + 1, x1 : x2 + 1].reshape(-1, 3).astype(float)
    distance = np.linalg.norm(behind - np.array(paint), axis=1)
    return float(np.quantile(distance, 0.2))


def _legible(backdrop: Pixels, box: Box, paint: tuple[int, int, int]) -> bool:
    """Whether thin strokes stand out: in brightness, which the eye and JPEG keep best."""
    x1, y1, x2, y2 = (max(0, round(value)) for value in box)
    behind = backdrop[y1 : y2 + 1, x1 : x2 + 1].reshape(-1, 3) @ _LUMA
    return float(np.quantile(np.abs(behind - np.dot(paint, _LUMA)), 0.2)) >= _LEAST_BRIGHTNESS_STEP


@lru_cache(maxsize=1)
def _fonts() -> tuple[object | None, ...]:
    """Font files; None is the font that comes with PIL."""
    sans = resources.files("font_source_sans_pro") / "files"
    serif = resources.files("font_source_serif_pro") / "files"
    return (
        None,
        sans / "SourceSansPro-Semibold.ttf",
        serif / "SourceSerifPro-Semibold.ttf",
        serif / "SourceSerifPro-Bold.ttf",
    )


@lru_cache(maxsize=8192)
def _extent(number: int, size: int, character: str) -> Box:
    """Left, top, right and bottom of the character from where it is drawn."""
    return _font(number, size).getbbox(character)


@lru_cache(maxsize=512)
def _font(number: int, size: int) -> ImageFont.FreeTypeFont:
    file = _fonts()[number]
    if file is None:
        font = ImageFont.load_default(size)
        assert isinstance(font, ImageFont.FreeTypeFont), "PIL was built without FreeType"
        return font
    return ImageFont.truetype(str(file), size)
