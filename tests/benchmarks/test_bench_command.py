"""`saccade bench serve` as a user runs it, against a real small server."""

import argparse
import json
from pathlib import Path

import pytest

from saccade.benchmarks import cli


def bench(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="saccade bench")
    cli.add_arguments(parser)
    return cli.run(parser.parse_args(["serve", *arguments]))


def small(url: str) -> list[str]:
    return [f"--url={url}", "--size=56x56,112x56", "--requests=6", "--concurrency=2"]


def test_a_run_prints_a_table_and_a_result_line(fake_server, tmp_path: Path, capsys):
    report = tmp_path / "deep" / "report.json"
    assert bench(*small(f"{fake_server.url}/v1/"), "--seed=7", f"--json={report}") == 0
    output = capsys.readouterr().out
    assert "time to first token" in output
    assert output.splitlines()[-1].startswith("RESULT correct=1 errors=0 requests=6 ")
    assert len(fake_server.bodies) == 1 + 2 + 6  # plain, warm-up, measured
    written = json.loads(report.read_text())
    assert written["correct"] is True
    assert written["result"]["visual_tokens"] == 3 * 4 + 3 * 8
    assert written["arguments"]["size"] == ["56x56", "112x56"]
    assert written["arguments"]["seed"] == 7
    assert written["server"]["model"] == "fake"
    assert written["versions"]["torch"]
    assert written["machine"]["cpus"] >= 1
    assert written["git_revision"]


def test_no_figures_while_an_answer_is_wrong(fake_server, tmp_path: Path, capsys):
    fake_server.behaviours = ["", "", "http_429", "miscounted"]  # the first two warm up
    report = tmp_path / "report.json"
    assert bench(*small(fake_server.url), f"--json={report}") == 1
    output = capsys.readouterr().out
    assert "time to first token" not in output
    assert "no figures: 2 of 6 answers are wrong" in output
    assert output.splitlines()[-1] == "RESULT correct=0 errors=1 errors_http_429=1 requests=6"
    written = json.loads(report.read_text())
    assert written["result"] is None
    assert len(written["problems"]) == 2


def test_without_a_seed_no_run_repeats_another(fake_server, capsys):
    for _ in range(2):
        assert bench(*small(fake_server.url)) == 0
    urls = [
        part["image_url"]["url"]
        for body in fake_server.bodies
        for part in body["messages"][0]["content"]
        if part["type"] == "image_url"
    ]
    assert len(urls) == len(set(urls)) == 16


def test_an_unknown_model_is_one_line(fake_server, capsys):
    assert bench(*small(fake_server.url), "--model=other") == 1
    assert "does not serve other; it serves: ['fake']" in capsys.readouterr().err


def test_an_absent_server_is_one_line(capsys):
    assert bench("--url=http://127.0.0.1:9", "--requests=1") == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("saccade bench: error: cannot talk to http://127.0.0.1:9")
    assert "\n" not in error


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
    ],
)
def test_wrong_use_is_named(wrong, capsys):
    with pytest.raises(SystemExit) as stopped:
        bench(*wrong)
    assert stopped.value.code == 2
    assert wrong[0].partition("=")[0] in capsys.readouterr().err


def test_odd_sides_of_clips_are_refused_before_anything_starts(capsys):
    assert bench("--workload=video", "--size=321x240") == 2
    assert "even" in capsys.readouterr().err
