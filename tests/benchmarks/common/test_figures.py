"""Percentiles and the lines a benchmark prints."""

import json
import math

import pytest

from saccade.benchmarks.common.figures import Percentiles, percentiles
from saccade.benchmarks.common.report import conclude, problem_list


def test_percentiles_are_in_milliseconds_and_interpolated():
    found = percentiles([number / 1000 for number in range(101, 0, -1)])  # 1 .. 101 ms, unordered
    assert (found.p50, found.p90, found.p99) == pytest.approx((51, 91, 100))
    assert found.mean == pytest.approx(51)
    between = percentiles([0.010, 0.020])
    assert (between.p50, between.p90, between.p99) == pytest.approx((15, 19, 19.9))


def test_one_time_is_all_its_percentiles():
    assert percentiles([0.25]) == Percentiles(250, 250, 250, 250)


def test_the_last_line_is_plain_numbers(capsys):
    assert conclude("some", {"a_ratio": 1.23456, "count": 7}, [], "a table", None, {}) == 0
    assert capsys.readouterr().out == "a table\nRESULT a_ratio=1.235 count=7\n"


def test_what_could_not_be_had_is_null_in_json(capsys, tmp_path):
    file = tmp_path / "report.json"
    assert conclude("some", {"a_ratio": math.nan}, [], "a table", file, {}) == 0
    assert capsys.readouterr().out.endswith("RESULT a_ratio=nan\n")
    assert json.loads(file.read_text())["result"] == {"a_ratio": None}


def test_a_wrong_run_has_problems_and_no_figures(capsys):
    assert conclude("some", None, ["request 1: wrong"], "a table", None, {}) == 1
    assert capsys.readouterr().out == "no figures:\n  request 1: wrong\nRESULT correct=0\n"


def test_a_long_list_of_problems_is_cut():
    text = problem_list([f"request {number}: wrong" for number in range(13)])
    assert text.count("wrong") == 10
    assert text.endswith("and 3 more")
