"""Times of a cut clip become those of its source; nothing else in the text changes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.media.grounding.timestamps import TimeRewriter


def rewritten(text, offset=12.5):
    rewriter = TimeRewriter(offset)
    return rewriter.feed(text) + rewriter.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It leaves at 00:07.", "It leaves at 00:20."),  # 19.5
        ("00:07", "00:20"),
        ("00:07.25-00:08.00, é", "00:19.75-00:20.50, é"),
        ("59:50.0", "60:02.5"),
        ("00:59:50.5", "01:00:03.0"),
        ("1:00:00 and 9:59", "1:00:12 and 10:12"),
        ('{"start": 3, "end":\n 4.50, "time": 0.0}', '{"start": 16, "end":\n 17.00, "time": 12.5}'),
        ('{"start_time": "00:01.0", "end_time":2.5}', '{"start_time": "00:13.5", "end_time":15.0}'),
        (r'"{\"timestamp\": 1.0}"', r'"{\"timestamp\": 13.5}"'),
        ("[00:01.0,00:02.0]", "[00:13.5,00:14.5]"),
        ('{"start": "3", "end": "4.5s"}', '{"start": "16", "end": "17.0s"}'),
        ('{"timestamps": [1.0, 2.5]}', '{"timestamps": [13.5, 15.0]}'),
        ('{"segment": (3, 5)}', '{"segment": (16, 18)}'),
    ],
)
def test_times_are_shifted(text, expected):
    assert rewritten(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "16:9 and 3:1, 1:2:3, 00:60, 1:60:00",
        "12:30pm, v00:07, 1234:56, 2024-01-01T00:05:00, 00:01:02:03, 0.00:07",
        '{"start": "3 of", "ending": 4, "end": null, "start": -1, "time": 1e2, "end": [[1, 2]]}',
        '{"end": [1, 2, "end": [1, -2], "end": [1, "2"], "end": [1, 2}',
        "start: 3, time = 4",
        '{"start": 3',
        '{"start": 3s}',
        "\u0660\u0660:\u0660\u0667",
        "1" * 500 + ":00",
    ],
)
def test_what_is_no_time_stays(text):
    assert rewritten(text) == text


def test_an_unknown_offset_leaves_times_and_counts_them():
    rewriter = TimeRewriter(None)
    text = 'at 00:07 {"start": 3.0} 16:9'
    assert rewriter.feed(text) + rewriter.close() == text
    assert rewriter.undecided == 2


SOUP = st.lists(
    st.sampled_from(
        [
            *'0123456789:. ,"{}[]\\',
            '"start": ',
            '"end": [',
            '"end":',
            "00:07",
            "1:02:03.4",
            "12.5",
            "\n",
            "am",
        ]
    ),
    max_size=40,
).map("".join)


@given(SOUP, st.floats(0, 10_000), st.data())
def test_how_the_text_is_cut_does_not_matter(text, offset, data):
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    rewriter, sent = TimeRewriter(offset), ""
    for start, end in zip([0, *places], [*places, len(text)], strict=True):
        sent += rewriter.feed(text[start:end])
    assert sent + rewriter.close() == rewritten(text, offset)
    assert re.sub(r"[\d:.]+", "#", rewritten(text, offset)) == re.sub(r"[\d:.]+", "#", text)


@given(SOUP)
def test_only_a_number_is_held_back(text):
    rewriter, sent = TimeRewriter(None), ""
    for place, character in enumerate(text, 1):
        sent += rewriter.feed(character)
        assert text.startswith(sent)
        held = text[len(sent) : place]
        assert re.fullmatch(r"[-+\d:.eE]{0,24}", held) or text[: len(sent)].endswith("[")
        assert re.fullmatch(r"[-+\d:.,eE \n\\]*", held)
    assert sent + rewriter.close() == text


@given(
    st.integers(0, 99 * 60), st.integers(0, 99), st.floats(0, 5000), st.sampled_from([0, 1, 2, 3])
)
def test_clock_times_keep_their_precision(second, hundredth, offset, places):
    digits = f"{hundredth / 100:.{places}f}".partition(".")[2]
    time = second + (float("0." + digits) if digits else 0)
    text = f"{second // 60:02d}:{second % 60:02d}" + (f".{digits}" if digits else "")
    minutes, rest = rewritten(text, offset).split(":")
    assert len(rest.partition(".")[2]) == places
    assert abs(60 * int(minutes) + float(rest) - time - offset) <= 0.5 / 10**places + 1e-9
