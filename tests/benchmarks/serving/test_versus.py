"""Two servers under one load: ours and vLLM's own, or two small ones that can be made to lie."""

import argparse
import json
from pathlib import Path

import pytest

from saccade.benchmarks import cli
from saccade.benchmarks.serving import versus


def arguments(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return parser.parse_args(["serve", "--versus=stock", *given])


@pytest.fixture
def small(tmp_path: Path) -> argparse.Namespace:
    given = (
        "--size=56x56",
        "--requests=8",
        "--concurrency=2",
        f"--json={tmp_path / 'report.json'}",
    )
    return arguments(*given, "--seed=0")


def test_equal_servers_get_ratios(fake_server, other_server, small, capsys):
    assert versus.compare(small, {"ours": fake_server.url, "stock": other_server.url}) == 0
    output = capsys.readouterr().out
    assert "8 of 8 answers are equal" in output
    assert output.splitlines()[-1].startswith("RESULT rps_ratio_56=")
    report = json.loads(small.json.read_text())
    assert report["result"].keys() == {"rps_ratio_56", "ttft_p99_ratio_56"}
    # One plain, and five rounds of two of which the first warms up: all of it to both.
    assert [len(server.bodies) for server in (fake_server, other_server)] == [11, 11]

    def sent(server) -> list[str]:
        return sorted(json.dumps(body) for body in server.bodies)

    assert sent(fake_server) == sent(other_server)
    assert len(set(sent(fake_server))) == 11


@pytest.mark.parametrize("behaviour", ["blue", "miscounted", "http_429"])
def test_no_ratios_while_answers_are_wrong_or_differ(
    fake_server, other_server, small, behaviour, capsys
):
    fake_server.behaviours = ["", "", behaviour]  # the first two warm up
    assert versus.compare(small, {"ours": fake_server.url, "stock": other_server.url}) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "RESULT correct=0"
    report = json.loads(small.json.read_text())
    assert report["result"] is None
    assert len(report["problems"]) == 1


@pytest.mark.usefixtures("starts_engine")
def test_vllm_without_us_serves_the_bundled_model_alike(capsys):
    given = arguments("--size=112x112", "--requests=8", "--concurrency=2", "--max-tokens=4")
    assert cli.run(given) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("RESULT rps_ratio_112=")
