"""A sheet of images with questions, answers and boxes drawn in: to see with one's own eyes."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from saccade.demo.evaluation.answers import Answer
from saccade.demo.evaluation.cases import Case
from saccade.demo.world.answers import boxes_of

_COLUMNS = 6
_WIDTH, _PICTURE, _TEXT = 300, 260, 70  # pixels of one field
_EXPECTED, _RIGHT, _WRONG = (255, 255, 255), (0, 220, 120), (255, 60, 160)
_LETTERS = 46  # that fit in a line


def draw_sheet(cases: Sequence[Case], answers: Sequence[Answer], file: Path) -> None:
    """Write one field for each case: its image (or a video's first frame), and what was said.

    Expected boxes are white; those of the answer green when they count as right, else pink.
    """
    rows = -(-len(cases) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * _WIDTH, rows * (_PICTURE + _TEXT)), (32, 32, 36))
    for index, (case, answer) in enumerate(zip(cases, answers, strict=True)):
        row, column = divmod(index, _COLUMNS)
        field = _field(case, answer.text)
        sheet.paste(field, (column * _WIDTH, row * (_PICTURE + _TEXT)))
    sheet.save(file)


def _field(case: Case, answer: str) -> Image.Image:
    field = Image.new("RGB", (_WIDTH, _PICTURE + _TEXT), (32, 32, 36))
    raster = case.medium.example.raster[0]
    scale = min((_WIDTH - 8) / raster.shape[1], (_PICTURE - 8) / raster.shape[0])
    size = (round(raster.shape[1] * scale), round(raster.shape[0] * scale))
    picture = Image.fromarray(raster).resize(size, Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(picture)
    colour = _RIGHT if case.score(answer) else _WRONG
    for boxes, paint in ((boxes_of(case.expected), _EXPECTED), (boxes_of(answer), colour)):
        for box in boxes:
            x1, x2 = sorted((box[0] * scale, box[2] * scale))
            y1, y2 = sorted((box[1] * scale, box[3] * scale))
            pen.rectangle((x1, y1, x2, y2), outline=paint, width=2)
    field.paste(picture, (4, 4))
    said = answer.replace("bbox_2d", "box")
    lines = [case.question[:_LETTERS], said[:_LETTERS], said[_LETTERS : 2 * _LETTERS]]
    text, font = ImageDraw.Draw(field), ImageFont.load_default(12)
    for number, (line, paint) in enumerate(
        zip(lines, ((210, 210, 210), colour, colour), strict=True)
    ):
        text.text((6, _PICTURE + 4 + 18 * number), line, fill=paint, font=font)
    return field
