"""`saccade bench liveliness` as a user runs it, against a real small server."""

import argparse
import json
import re
from pathlib import Path

import pytest

from saccade.benchmarks import cli
from saccade.benchmarks.serving import responsiveness


def bench(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="saccade bench")
    cli.add_arguments(parser)
    return cli.run(parser.parse_args(["liveliness", *arguments]))


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(responsiveness, "_SIDES", (112, 56))
    monkeypatch.setattr(responsiveness, "_IDLE_SECONDS", 0.1)


def test_a_run_ends_with_figures(fake_server, tmp_path: Path, capsys):
    report = tmp_path / "report.json"
    assert bench(f"--url={fake_server.url}", "--requests=4", f"--json={report}") == 0
    name, *values = capsys.readouterr().out.splitlines()[-1].split()
    figures = dict(value.split("=") for value in values)
    assert name == "RESULT"
    assert 0 < float(figures["health_p50_ms"]) <= float(figures["health_p99_ms"])
    assert float(figures["health_p99_ms"]) <= float(figures["health_max_ms"])
    assert fake_server.most_active == 4, "all at once"
    written = json.loads(report.read_text())
    assert written["result"]["health_p99_ms"] == pytest.approx(
        float(figures["health_p99_ms"]), abs=0.01
    )


@pytest.mark.parametrize("wrong", ["http_500", "misdetailed"])
def test_no_figures_while_an_answer_is_wrong(fake_server, wrong: str, capsys):
    fake_server.behaviours = ["", wrong]  # the first warms up
    assert bench(f"--url={fake_server.url}", "--requests=2") == 1
    output = capsys.readouterr().out
    assert output.splitlines()[-1] == "RESULT correct=0"
    # Two ask at once; either may be the one.
    assert re.match(r"no figures:\n  request [12]: ", output)


def test_no_figures_without_health(fake_server, capsys):
    fake_server.healthy = False
    assert bench(f"--url={fake_server.url}", "--requests=2") == 1
    assert "/health answered 503" in capsys.readouterr().out
