"""Rates, limits, ratios of rounds and their intervals, tables and charts."""

import math

import pytest

from saccade.benchmarks.common.plots import Line, bar_chart, line_chart, page, ticks
from saccade.benchmarks.load import comparison
from saccade.benchmarks.load.comparison import ratio
from saccade.benchmarks.load.rates import Rate, parse_rates, parse_slo


def test_rates_are_numbers_or_shares_of_the_saturation_which_comes_first():
    assert parse_rates("2,0.5") == (Rate(2.0), Rate(0.5))
    assert parse_rates("80%,4") == (Rate(math.inf), Rate(0.8, True), Rate(4.0))
    assert parse_rates("3,inf") == (Rate(math.inf), Rate(3.0))
    labels = [rate.label for rate in parse_rates("sweep")]
    assert labels == ["inf", "25%", "50%", "80%", "100%", "120%"]
    assert Rate(0.8, True).resolve(10) == 8
    assert Rate(3.0).resolve(10) == 3


def test_limits_are_by_vllms_names():
    assert parse_slo("ttft:500,e2e:2000.5,tpot:20") == {"ttft": 500, "e2el": 2000.5, "tpot": 20}


def test_ratios_are_geometric_means_with_students_interval():
    found = ratio([2.0, 2.0, 2.0], [1.0, 1.0, 1.0])
    assert (found.value, found.low, found.high) == pytest.approx((2, 2, 2))
    # Logarithms 0 and 0.2: mean 0.1, deviation 0.1414, of which 12.706 / sqrt(2) to each side.
    found = ratio([1.0, math.exp(0.2)], [1.0, 1.0])
    assert math.log(found.value) == pytest.approx(0.1)
    assert math.log(found.high) == pytest.approx(0.1 + 1.2706)
    assert math.log(found.low) == pytest.approx(0.1 - 1.2706)
    # Eleven rounds and more take the quantile of ten degrees of freedom.
    found = ratio([1.0, math.exp(1)] * 6, [1.0] * 12)
    assert math.log(found.high / found.value) == pytest.approx(2.228 * 0.5222 / 12**0.5, rel=1e-3)


def test_of_figures_that_are_missing_or_shrink_there_is_no_ratio(monkeypatch):
    monkeypatch.setattr(comparison, "METRICS", {"cpu": lambda run: run})
    for wrong in (None, 0.0, -0.5):
        assert comparison.ratios({"one": [1.0, wrong], "other": [2.0, 2.0]}) == {}
    assert comparison.ratios({"one": [1.0], "other": [2.0]})["cpu"].value == 0.5


def test_a_single_round_has_no_interval():
    assert ratio([3.0], [2.0]).text() == "1.50"
    assert ratio([3.0, 3.0], [2.0, 2.0]).text() == "1.50 [1.50, 1.50]"


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (1.0, [0, 0.1, 0.9, 1.0]),
        (7.3, [0, 1, 6, 7]),
        (24, [0, 5, 15, 20]),
        (0.02, [0, 0.002, 0.018]),
    ],
)
def test_ticks_are_round_and_few(most: float, expected: list[float]):
    found = ticks(most)
    assert 4 <= len(found) <= 11
    assert found[-1] <= most
    assert set(expected) <= set(found)


def test_a_chart_places_points_by_their_values():
    line = Line("a <b>", [(2.0, 10.0), (1.0, 5.0)], dashed=True)
    (chart,) = [page([line_chart("t", "x", "y", [line, Line("none", [])])], 1)]
    assert chart.count("<circle") == 2
    assert "a &lt;b&gt;" in chart
    assert "none" not in chart.replace('fill="none"', "")
    xs = [float(part.split('"')[1]) for part in chart.split("<circle cx=")[1:]]
    left, axis_right = 58, 420 - 12
    assert xs[0] - left == pytest.approx((xs[1] - left) / 2, abs=0.1)
    assert xs[1] < axis_right


def test_bars_are_as_high_as_their_values():
    chart = page([bar_chart("t", "y", {"one": {"a": 1.0, "b": 2.0}, "two": {"a": 4.0, "b": 3.0}})])
    bars = [part.split('height="')[1] for part in chart.split("<rect")[2:]]
    heights = [float(bar.split('"')[0]) for bar in bars]
    assert heights == pytest.approx([heights[2] * share for share in (0.25, 0.5, 1, 0.75)], abs=0.2)
