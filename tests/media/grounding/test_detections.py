"""Boxes and points of an answer as data, found in whatever surrounds them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.media.grounding.coordinates import CoordinateRewriter
from saccade.media.grounding.detections import Detection, DetectionReader
from saccade.media.planning.plan import ImagePlan

ONE = ImagePlan(1120, 840, 560, 420, (1, 30, 40), 300)
OTHER = ImagePlan(1680, 1260, 560, 420, (1, 30, 40), 300)
BOX = '{"bbox_2d": [1, 2, 30, 40], "label": "cat"}'
CAT = Detection("cat", (1, 2, 30, 40), 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BOX, [CAT]),
        (f"Here:\n```json\n[{BOX}, {BOX}]\n```\nDone.", [CAT, CAT]),
        (f"[{BOX}, {{'label': 1}}, {BOX}, {{\"bbox_2d\": [1, 2", [CAT, CAT]),
        (f'{{"found": {{"deep": [[{BOX}]]}}}}', [CAT]),
        (json.dumps({"answer": f"```{BOX}```"}), [CAT]),
        ('{"point_2d": [1.5, 2]}', [Detection(None, (1.5, 2), 0)]),
        ('{"text_content": "Hi", "bbox_2d": [1, 2, 3, 4]}', [Detection("Hi", (1, 2, 3, 4), 0)]),
        (
            '<tool_call>\n{"name": "computer_use", "arguments": '
            '{"action": "left_click", "coordinate": [5, 6]}}\n</tool_call>',
            [Detection(None, (5, 6), 0)],
        ),
        ('<p data-bbox="1 2 3 4">a</p>', [Detection("p", (1, 2, 3, 4), 0)]),
        ('<div class="chart" data-bbox="1 2 3 4"/>', [Detection("chart", (1, 2, 3, 4), 0)]),
        (f"<p data-bbox='1 2 3 4'>{BOX}", [CAT, Detection("p", (1, 2, 3, 4), 0)]),
        ('{"bbox_2d": [1, 2, 3]} {"bbox_2d": [1, 2, 3, null]} {"bbox_2d": "1 2 3"}', []),
        ('{"bbox_2d": [NaN, Infinity, 1e999, 4]} {"bbox_2d": [true, 2, 3, 4]}', []),
        ('{"bbox_2d": [1e2, 2, 3, 4]} <p data-bbox="1e2 2 3 4">', []),
        ('{"bbox_2d": [' + "9" * 30 + ", 2, 3, 4]}", []),
        ("no boxes", []),
        ("bbox_2d [1, 2, 3, 4]", []),
    ],
)
def test_what_is_found(text, expected):
    assert DetectionReader([ONE]).read(text) == expected


def test_only_decided_boxes_are_told():
    text = f'[{{"image": 2, "point_2d": [1, 2]}}, {BOX}] <p data-image="1" data-bbox="1 2 3 4">'
    found = DetectionReader([ONE, OTHER]).read(text)
    assert found == [Detection(None, (1, 2), 1), Detection("p", (1, 2, 3, 4), 0)]


def test_pictures_of_one_scale_are_left_open():
    assert DetectionReader([ONE, ONE]).read(BOX) == [Detection("cat", (1, 2, 30, 40), None)]
    assert DetectionReader([ONE, ONE]).read('{"image": 2, "point_2d": [1, 2]}')[0].medium == 1


def test_what_json_cannot_read_is_passed_over_and_given_up(monkeypatch):
    """Text nested too deep for json among it: every try may read all that is left."""
    tries = []

    def fail(decoder, text, place):
        tries.append(place)
        raise (ValueError, RecursionError)[len(tries) % 2]

    assert len(DetectionReader([ONE]).read("[1] " * 100 + BOX)) == 1
    monkeypatch.setattr(json.JSONDecoder, "raw_decode", fail)
    assert DetectionReader([ONE]).read("[1] " * 100 + BOX) == []
    assert tries == list(range(0, 4 * 64, 4))


values = st.recursive(
    st.integers(0, 99) | st.sampled_from(["image_1", "x"]) | st.booleans() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["image", "image_1", "image_2", "image_index", "label", "a"]),
            inner,
            max_size=3,
        )
        | st.fixed_dictionaries({"image": inner, "point_2d": st.just([10, 20]), "b": inner})
        | st.fixed_dictionaries({"point_2d": st.just([10, 20])})
    ),
    max_leaves=20,
)


@given(values)
def test_detections_are_what_was_rewritten(value):
    """The reader of the whole text and the rewriter of the stream name pictures alike."""
    rewriter = CoordinateRewriter([ONE, OTHER])
    text = rewriter.feed(json.dumps(value)) + rewriter.close()
    found = DetectionReader([ONE, OTHER]).read(text)
    numbers = {0: (20, 40), 1: (30, 60)}
    assert all(one.numbers == numbers[one.medium] for one in found)
    assert len(found) + rewriter.undecided == text.count("point_2d")
