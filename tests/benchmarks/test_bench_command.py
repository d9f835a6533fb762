"""`saccade bench serve` used wrongly."""

import argparse

import pytest

from saccade.benchmarks import cli


def bench(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="saccade bench")
    cli.add_arguments(parser)
    return cli.run(parser.parse_args(["serve", *arguments]))


@pytest.mark.parametrize(
    "wrong",
    [
        ["--size=448"],
        ["--size=0x3"],
        ["--requests=0"],
        ["--concurrency=-1"],
        ["--max-tokens=x"],
        ["--seed=-1"],
        ["--timeout=nan"],
        ["--versus=other"],
    ],
)
def test_wrong_use_is_named(wrong, capsys):
    with pytest.raises(SystemExit) as stopped:
        bench(*wrong)
    assert stopped.value.code == 2
    assert wrong[0].partition("=")[0] in capsys.readouterr().err


def test_odd_sides_of_videos_are_refused_before_anything_starts(capsys):
    assert bench("--workload=video", "--size=321x240") == 2
    assert "even" in capsys.readouterr().err
