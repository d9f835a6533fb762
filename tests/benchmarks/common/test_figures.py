"""Percentiles and the lines a benchmark prints."""

import re

import pytest

from saccade.benchmarks.common.figures import Figures, Percentiles, percentiles
from saccade.benchmarks.common.report import problem_list, result_line, table

TIMES = Percentiles(1.0, 2.0, 3.0, 1.5)
FIGURES = Figures(
    requests=4,
    seconds=2.0,
    requests_per_second=2.0,
    output_tokens_per_second=32.0,
    prompt_tokens=1112,
    visual_tokens=1024,
    output_tokens=64,
    ttft_ms=TIMES,
    itl_ms=TIMES,
    e2e_ms=TIMES,
)


def test_percentiles_are_in_milliseconds_and_interpolated():
    found = percentiles([number / 1000 for number in range(101, 0, -1)])  # 1 .. 101 ms, unordered
    assert (found.p50, found.p90, found.p99) == pytest.approx((51, 91, 100))
    assert found.mean == pytest.approx(51)
    between = percentiles([0.010, 0.020])
    assert (between.p50, between.p90, between.p99) == pytest.approx((15, 19, 19.9))


def test_one_time_is_all_its_percentiles():
    assert percentiles([0.25]) == Percentiles(250, 250, 250, 250)


def test_the_result_line_is_plain_numbers():
    line = result_line(FIGURES, 4, {}, [])
    assert re.fullmatch(r"RESULT( [a-z0-9_]+=\d+(\.\d+)?)+", line)
    assert " correct=1 errors=0 requests=4 " in line
    assert " ttft_ms_p99=3.000 " in line
    assert " requests_per_second=2.000 " in line


def test_a_wrong_run_has_counts_and_no_figures():
    line = result_line(None, 8, {"http_429": 2, "timeout": 1}, ["a", "b", "c"])
    assert line == "RESULT correct=0 errors=3 errors_http_429=2 errors_timeout=1 requests=8"


def test_answers_of_one_piece_have_no_time_between_tokens():
    single = Figures(**{**vars(FIGURES), "itl_ms": None})
    assert "between tokens" in table(FIGURES)
    assert "between tokens" not in table(single)
    assert "itl" not in result_line(single, 4, {}, [])


def test_a_long_list_of_problems_is_cut():
    text = problem_list([f"request {number}: wrong" for number in range(13)])
    assert text.count("wrong") == 10
    assert text.endswith("and 3 more")
