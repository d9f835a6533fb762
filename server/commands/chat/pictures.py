"""A small picture of an image for a terminal: kitty's protocol, sixel, or coloured half blocks."""

import base64
from collections.abc import Iterator, Mapping
from io import BytesIO
from itertools import groupby

from PIL import Image

KINDS = ("kitty", "sixel", "blocks", "none")
_PIXELS = (400, 240)  # at most, of kitty and sixel
_CELLS = (40, 12)  # columns and rows at most, of half blocks
_KITTY_CHUNK = 4096  # characters of base64
_COLOURS = 64  # of a sixel picture
_BAND = 6  # rows of pixels that a line of sixel holds


def choose(environment: Mapping[str, str]) -> str:
    """What the terminal can show, by what its variables say."""
    term, program = environment.get("TERM", "dumb"), environment.get("TERM_PROGRAM", "")
    # They pass neither protocol on by themselves, and inherit the variables of what is around them.
    wrapped = "TMUX" in environment or term.startswith(("tmux", "screen"))
    if term == "dumb" or "NO_COLOR" in environment:
        return "none"
    if not wrapped:
        if "KITTY_WINDOW_ID" in environment or term in ("xterm-kitty", "xterm-ghostty"):
            return "kitty"
        if program == "ghostty":
            return "kitty"
        if program in ("WezTerm", "mintty", "iTerm.app", "contour"):
            return "sixel"
        if "sixel" in term or term.split("-")[0] in ("foot", "mlterm", "yaft", "contour"):
            return "sixel"
    if environment.get("COLORTERM") in ("truecolor", "24bit") or term.endswith("-direct"):
        return "blocks"
    return "none"


def draw(image: Image.Image, kind: str) -> str:
    """What to write to the terminal, with its end of line; the image is RGB."""
    if kind == "none":
        return ""
    columns, rows = _CELLS
    # A half block is about as wide as high.
    small = _fitted(image, (columns, 2 * rows) if kind == "blocks" else _PIXELS)
    return {"kitty": kitty, "sixel": sixel, "blocks": blocks}[kind](small) + "\n"


def kitty(image: Image.Image) -> str:
    """Kitty's graphics protocol: a PNG in base64, in chunks; the terminal is to answer nothing."""
    file = BytesIO()
    image.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    chunks = [data[at : at + _KITTY_CHUNK] for at in range(0, len(data), _KITTY_CHUNK)]
    sent = []
    for at, chunk in enumerate(chunks):
        keys = "a=T,f=100,q=2," if at == 0 else ""
        sent.append(f"\x1b_G{keys}m={int(at < len(chunks) - 1)};{chunk}\x1b\\")
    return "".join(sent)


def sixel(image: Image.Image) -> str:
    """DEC's sixel graphics: a palette, then bands of six rows, colour by colour, run by run."""
    coded = image.quantize(_COLOURS)
    palette = coded.getpalette() or []
    pixels = coded.tobytes()
    used = sorted(set(pixels))
    colours = [
        f"#{colour};2;" + ";".join(f"{round(part / 2.55)}" for part in palette[3 * colour :][:3])
        for colour in used
    ]
    lines = [
        "$".join(_band(pixels[top * image.width : (top + _BAND) * image.width], image.width))
        for top in range(0, image.height, _BAND)
    ]
    size = f'"1;1;{image.width};{image.height}'
    return f"\x1bP0;1q{size}{''.join(colours)}{'-'.join(lines)}\x1b\\"


def blocks(image: Image.Image) -> str:
    """Half blocks in 24-bit colours: the upper pixel is the letter's, the lower the ground's."""
    width, height = image.size
    data = image.tobytes()
    pixels = [tuple(data[at : at + 3]) for at in range(0, len(data), 3)]
    lines = []
    for top in range(0, height, 2):
        line = ""
        for x in range(width):
            red, green, blue = pixels[top * width + x]
            ground = "49"
            if top + 1 < height:
                ground = "48;2;{};{};{}".format(*pixels[(top + 1) * width + x])
            line += f"\x1b[38;2;{red};{green};{blue};{ground}m▀"
        lines.append(f"{line}\x1b[0m")
    return "\n".join(lines)


def _fitted(image: Image.Image, most: tuple[int, int]) -> Image.Image:
    """The image within so many pixels; never larger than it is."""
    small = image.copy()
    small.thumbnail(most)
    return small


def _band(pixels: bytes, width: int) -> Iterator[str]:
    """Each colour of at most six rows of pixels."""
    columns: dict[int, bytearray] = {}
    for at, colour in enumerate(pixels):
        row, x = divmod(at, width)
        columns.setdefault(colour, bytearray(width))[x] |= 1 << row
    for colour, bits in columns.items():
        runs = []
        for value, run in groupby(bits):
            length, letter = len(list(run)), chr(63 + value)
            runs.append(f"!{length}{letter}" if length > 3 else letter * length)
        yield f"#{colour}{''.join(runs)}"
