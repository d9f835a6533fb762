"""Boxes and points in source pixels: only their numbers change, however the text is cut."""

import itertools
import json
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.media.grounding.coordinates import CoordinateRewriter
from saccade.media.planning.plan import ImagePlan, VideoPlan

SIDE = st.integers(1, 20_000)
SHOWN = st.integers(1, 200).map(lambda count: 28 * count)
LENGTHS = {"bbox_2d": 4, "point_2d": 2, "coordinate": 2, "coordinate2": 2}
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
# What numbers may be written in while they are held back.
HELD = re.compile(r"[-+\d.,eE ()\[\] \t\r\n\\nrt]*")


def image(source, shown):
    return ImagePlan(*source, *shown, (1, shown[1] // 14, shown[0] // 14), 1)


def video(source, shown, start=0.0):
    times = start, start + 1
    grid = (1, shown[1] // 14, shown[0] // 14)
    return VideoPlan(*source, *shown, grid, 1, 25.0, 100, (0, 25), times, 1.0, 2.0)


images = st.builds(image, st.tuples(SIDE, SIDE), st.tuples(SHOWN, SHOWN))
DOUBLED = image((1120, 840), (560, 420))
TRIPLED = image((1680, 1260), (560, 420))


def rewritten(text, *plans):
    rewriter = CoordinateRewriter(plans or [DOUBLED])
    return rewriter.feed(text) + rewriter.close()


@st.composite
def cut(draw, texts):
    """A text and pieces that it is made of."""
    text = draw(texts)
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    edges = [0, *places, len(text)]
    return text, [text[one:other] for one, other in itertools.pairwise(edges)]


# Everything that openers and lists are made of, whole and in parts, and what breaks them.
FRAGMENTS = [
    *('"bbox_2d": [', r"\"bbox_2d\": [", '"point_2d":[', '"coordinate": [', '"bbox_2d', '": ['),
    *('data-bbox="', r" data-bbox=\"", " data-bbox='", "<p", ">", "]", "[", "{", "}", '"', "\\"),
    *("'", ",", ", ", " ", "\n", r"\n", "1", "20", "3.5", "-4", "1e3", "300", "[10, 20, 30, 40]"),
    *(
        "start_box='",
        "point=(",
        "<points ",
        " x1=",
        "<|box_start|>",
        "<point>",
        "(10,20)",
        "(",
        ")",
    ),
    *("10 20 30 40", '"label": "é東🦊"', "```json\n", "image", '"image": 2,', "null", "[[", ":"),
]
soups = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=4), max_size=40).map("".join)

white = st.sampled_from(["", " ", "\n  ", "\t"])
numbers = st.integers(-100, 9999).map(str) | st.decimals(-10, 9999, places=2, allow_nan=False).map(
    str
)


@st.composite
def lists(draw):
    """(text before, numbers, separators, text after) of a list that is rewritten."""
    key = draw(st.sampled_from([*LENGTHS, "data-bbox"]))
    quote = "\\" * draw(st.integers(0, 3)) + '"'
    if key == "data-bbox":
        values = draw(st.lists(numbers, min_size=4, max_size=4))
        separators = ["", *draw(st.lists(st.sampled_from([" ", "\n"]), min_size=3, max_size=3)), ""]
        return f"<p data-bbox={quote}", values, separators, f"{quote}>"
    length = LENGTHS[key]
    values = draw(st.lists(numbers, min_size=length, max_size=length))
    inner = draw(st.lists(white, min_size=length + 1, max_size=length + 1))
    separators = [inner[0], *(f"{space}, " for space in inner[1:-1]), inner[-1]]
    before = f"{{{quote}{key}{quote}{draw(white)}:{draw(white)}["
    return before, values, separators, f"], {quote}label{quote}: 3}}"


@given(images, st.lists(st.tuples(st.text("ab<>{}[]:, 1é東🦊\n", max_size=20), lists())))
def test_numbers_are_mapped_and_the_rest_stays(plan, parts):
    text = "".join(
        noise + before + "".join(map("".join, zip(separators, [*values, ""], strict=True))) + after
        for noise, (before, values, separators, after) in parts
    )
    rest = rewritten(text, plan)
    for noise, (before, values, separators, after) in parts:
        assert rest.startswith(noise + before)
        rest = rest.removeprefix(noise + before)
        for place, value in enumerate(values):
            assert rest.startswith(separators[place])
            rest = rest.removeprefix(separators[place])
            said = NUMBER.match(rest)[0]
            rest = rest.removeprefix(said)
            shown, sent = (
                (plan.width, plan.source_width),
                (plan.height, plan.source_height),
            )[place % 2]
            exact = min(max(Fraction(value) * sent / shown, 0), sent)
            assert len(said.partition(".")[2]) == len(value.partition(".")[2])
            unit = Fraction(1, 10 ** len(value.partition(".")[2]))
            assert abs(Fraction(said) - exact) <= unit / 2 + Fraction(1, 10**9)
        assert rest.startswith(separators[-1] + after)
        rest = rest.removeprefix(separators[-1] + after)
    assert rest == ""


@given(st.lists(images, min_size=1, max_size=2), cut(soups))
def test_how_the_text_is_cut_does_not_matter(plans, text_and_pieces):
    text, pieces = text_and_pieces
    rewriter = CoordinateRewriter(plans)
    whole = CoordinateRewriter(plans)
    expected = whole.feed(text) + whole.close()
    assert "".join(map(rewriter.feed, pieces)) + rewriter.close() == expected
    assert (rewriter.undecided, rewriter.unread) == (whole.undecided, whole.unread)
    assert NUMBER.sub("#", expected) == NUMBER.sub("#", text)


@given(soups)
def test_only_the_list_is_held_back(text):
    # In a large picture's own scale numbers come out as they are, so that what was held shows.
    text = re.sub(r"-|\b0+", "", text)
    rewriter = CoordinateRewriter([image((10**9, 10**9), (10**9, 10**9))])
    sent = ""
    for place, character in enumerate(text, 1):
        sent += rewriter.feed(character)
        assert text.startswith(sent)
        held = text[len(sent) : place]
        assert len(held) <= 256
        assert HELD.fullmatch(held)
        if held:
            assert text[len(sent) - 1] in "[(\"'>"
            assert re.search(
                r"((bbox_2d|point|point_2d|coordinate|data-bbox|start_box|\sx1)\W*|_start\|>|<point>)$",
                text[: len(sent)],
            )


def test_the_list_goes_out_with_its_end():
    rewriter = CoordinateRewriter([DOUBLED])
    sent = [rewriter.feed(character) for character in '{"point_2d": [10, 20], "x"']
    assert sent == [*'{"point_2d": [', "", "", "", "", "", "", "20, 40]", *', "x"']


def test_a_list_that_never_ends_is_let_go():
    text = '"bbox_2d": [' + "1, " * 5000
    rewriter = CoordinateRewriter([DOUBLED])
    sent = 0
    for place in range(0, len(text), 10):
        sent += len(rewriter.feed(text[place : place + 10]))
        assert place + 10 - sent <= 266
    assert sent >= len(text) - 266
    assert rewritten(text) == text
    assert rewriter.unread == 1


UNTOUCHED = [
    '"bbox_2d": [1, 2, 3]',
    '"bbox_2d": [1, 2, 3, 4, 5]',
    '"bbox_2d": [[1, 2, 3, 4]]',
    '"bbox_2d": [1, 2, 3, 4',
    '"bbox_2d": [1, 2, "3", 4]',
    '"bbox_2d": [1e2, 2, 3, 4]',
    '"bbox_2d": [1, 2,, 4]',
    '"bbox_2d": [1 2 3 4]',
    r'\"bbox_2d": [1, 2, 3, 4]',
    '"bbox_3d": [1, 2, 3, 4]',
    '"xbbox_2d": [1, 2, 3, 4]',
    '"bbox_2d", [1, 2, 3, 4]',
    "bbox_2d: [1, 2, 3, 4]",
    "[1, 2, 3, 4]",
    '"point_2d": [1, 2, 3, 4]',
    '<p data-bbox="1 2 3">',
    "<p data-bbox=\"1 2 3 4'>",
    r'<p data-bbox="1 2 3 4\">',
    '<p xdata-bbox="1 2 3 4">',
    '<p data-bbox="1 2 3 four">',
    "<p data-bbox=1>",
    '"coordinate": "1, 2',
    '"coordinate": "1, 2, 3"',
    '"coordinate": "1, 2\'',
    '"coordinate": null',
]


@pytest.mark.parametrize("text", UNTOUCHED)
def test_what_is_no_box_stays(text):
    assert rewritten(text) == text
    # ... and does not hide the next.
    assert rewritten(text + ' {"point_2d": [1, 2]}') == text + ' {"point_2d": [2, 4]}'


def test_unread_boxes_are_counted():
    rewriter = CoordinateRewriter([DOUBLED])
    rewriter.feed('{"bbox_2d": [[1, 2, 3, 4]], "bbox_2d": [], "point_2d": [1, 2]}<p data-bbox="">')
    rewriter.close()
    assert (rewriter.unread, rewriter.undecided) == (1, 0)


def test_boxes_of_a_clip_belong_to_its_frames():
    clip = video((280, 1260), (560, 420))
    assert rewritten('"bbox_2d": [10, 20, 30, 40]', clip) == '"bbox_2d": [5, 60, 15, 120]'


NAMED = [  # what one of two pictures, the second three times as large as shown, is named by
    ('{"image": 2, "point_2d": [10, 20]}', [30, 60]),
    ('{"image": 1, "point_2d": [10, 20]}', [20, 40]),
    ('{"image": "image_2", "point_2d": [10, 20]}', [30, 60]),
    ('{"picture": "Picture 2", "label": "a, {b", "point_2d": [10, 20]}', [30, 60]),
    ('{"image_index": 1, "point_2d": [10, 20]}', [30, 60]),
    ('{"image": 2, "boxes": [{"label": "a"}, {"point_2d": [10, 20]}]}', [30, 60]),
    ('{"image_1": [], "image_2": [{"point_2d": [10, 20]}]}', [30, 60]),
    ('It is 5" wide:\n{"image": 2, "point_2d": [10, 20]}', [30, 60]),
    ('{"image": 2}, {"image": 1, "a": {"image": 2}, "point_2d": [10, 20]}', [20, 40]),
    ('{"image": 2, "html": "{\\"point_2d\\": [10, 20]}"}', [30, 60]),
    ('{"point_2d": [10, 20], "image": 2}', None),
    ('[{"image": 2}, {"point_2d": [10, 20]}]', None),
    ('{"image": 3, "point_2d": [10, 20]}', None),
    ('{"image": 0, "point_2d": [10, 20]}', None),
    ('{"image": true, "point_2d": [10, 20]}', None),
    ('{"image_1": {"image": "cat.jpg", "point_2d": [10, 20]}}', None),
    ('{"video": 1, "point_2d": [10, 20]}', None),
    ('{"image_count": 2, "point_2d": [10, 20]}', None),
    ('{"point_2d": [10, 20]}', None),
]


@pytest.mark.parametrize(("text", "point"), NAMED)
def test_the_answers_object_names_its_picture(text, point):
    rewriter = CoordinateRewriter([DOUBLED, TRIPLED])
    out = rewriter.feed(text) + rewriter.close()
    assert out == (text if point is None else text.replace("[10, 20]", json.dumps(point)))
    assert rewriter.undecided == (point is None)


def test_html_names_its_picture():
    text = '<p data-image="2" data-bbox="1 2 3 4">a</p><p data-bbox="1 2 3 4">'
    expected = '<p data-image="2" data-bbox="3 6 9 12">a</p><p data-bbox="1 2 3 4">'
    assert rewritten(text, DOUBLED, TRIPLED) == expected


def test_pictures_and_clips_are_counted_apart():
    plans = [video((560, 420), (560, 420)), DOUBLED, TRIPLED]
    assert rewritten('{"image": 2, "point_2d": [1, 2]}', *plans).endswith("[3, 6]}")
    assert rewritten('{"video": 1, "point_2d": [1, 2]}', *plans).endswith("[1, 2]}")


def test_pictures_of_one_scale_need_no_name():
    assert rewritten('{"point_2d": [1, 2]}', DOUBLED, DOUBLED) == '{"point_2d": [2, 4]}'


def test_without_media_numbers_stay():
    rewriter = CoordinateRewriter([])
    assert rewriter.feed('{"point_2d": [1, 2]}') == '{"point_2d": [1, 2]}'
    assert rewriter.undecided == 1
