"""`saccade bench planning`: what it says, and that it notices a wrong plan."""

import argparse
import dataclasses
import re

import pytest
import torch

from saccade.benchmarks import cli
from saccade.benchmarks.preprocessing import positions as planning


def bench(*given: str) -> int:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.run(parser.parse_args(["planning", *given]))


def test_the_last_line_has_the_figures(capsys):
    assert bench("--images=3", "--side=300", "--rounds=3") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    found = re.fullmatch(
        r"RESULT patches=(\d+) planning_ms=([\d.]+) planning_ms_transformers=([\d.]+) "
        r"planning_ratio=([\d.]+)",
        last,
    )
    assert found, last
    patches = sum(h * w for _, h, w in planning.draw_grids(3, 300, 0))
    assert int(found[1]) == patches
    assert float(found[4]) == pytest.approx(float(found[3]) / float(found[2]), rel=0.05)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("unit_order", "order"),
        ("positions", "rows and columns"),
        ("windows", "windows"),
        ("frames", "frames"),
        (None, "positions"),
    ],
)
def test_a_wrong_plan_has_no_figures(part, told, monkeypatch, capsys):
    def wrong(grids, pixels):
        positions, inputs = right(grids, pixels)
        if part is None:
            return positions + 1, inputs
        value = getattr(inputs, part)
        if isinstance(value, torch.Tensor):
            value = value.flip(-1)
        else:
            value = dataclasses.replace(value, cu_seqlens=value.cu_seqlens + 1)
        return positions, dataclasses.replace(inputs, **{part: value})

    right = planning.ours
    monkeypatch.setattr(planning, "ours", wrong)
    assert bench("--side=300", "--rounds=1") == 1
    assert capsys.readouterr().out.splitlines() == [
        "no figures:",
        f"  {told} are not transformers'",
        "RESULT correct=0",
    ]
