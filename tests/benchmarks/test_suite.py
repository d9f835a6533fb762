"""`saccade bench all`: the tables of documents are what the reports say."""

import argparse
import json
from pathlib import Path

import pytest

from saccade.benchmarks import cli, suite

PLACE = "Before.\n\n<!-- bench {} -->\nold\n<!-- end -->\n\nAfter.\n"


def bench_all(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="saccade bench")
    cli.add_arguments(parser)
    return cli.run(parser.parse_args(["all", *arguments]))


@pytest.fixture
def report() -> dict:
    return {
        "result": {"a_ratio": 1.23456, "count": 7},
        "command": "saccade bench planning",
        "date": "2026-01-02",
        "git_revision": "0123456789abcdef",
        "versions": {"python": "3.11.1", "vllm": "0.32.0", "pillow": "13"},
        "machine": {"system": "Linux", "cpu": "A CPU", "cpus": 2, "gpus": []},
    }


def test_a_table_is_put_between_its_marks(tmp_path: Path, report: dict):
    document = tmp_path / "document.md"
    document.write_text(PLACE.format("planning") + PLACE.format("tower"))
    (tmp_path / "planning.json").write_text(json.dumps(report))
    for _ in range(2):  # the second time changes nothing
        suite.write_tables(document, tmp_path)
        written = document.read_text()
        assert "| `a_ratio` | 1.23 |\n| `count` | 7 |" in written
        assert "2026-01-02, 2 cores of A CPU; vllm 0.32.0, python 3.11.1" in written
        assert "`saccade bench planning`" in written
        assert written.endswith(PLACE.format("tower")), "no report, no change"
        assert written.startswith("Before.\n\n<!-- bench planning -->\n")


def test_a_report_without_figures_says_so(tmp_path: Path, report: dict):
    document = tmp_path / "document.md"
    document.write_text(PLACE.format("planning"))
    (tmp_path / "planning.json").write_text(json.dumps({**report, "result": None}))
    suite.write_tables(document, tmp_path)
    assert "No figures: an answer was wrong. 2026-01-02" in document.read_text()
    assert "1.23" not in document.read_text()


def test_ratios_of_a_load_have_a_row_for_each_profile(tmp_path: Path, report: dict):
    document = tmp_path / "document.md"
    document.write_text(PLACE.format("load-headline"))

    def point(text: str) -> dict:
        return {"servers": {}, "ratios": {"requests_per_second": {"text": text}}}

    profiles = {"image-448": {"rates": {"inf": point("1.50 [1.40, 1.60]"), "80%": point("1.0")}}}
    more = {"servers": {"saccade": {}, "stock": {}}, "profiles": profiles}
    (tmp_path / "load.json").write_text(json.dumps({**report, **more}))
    suite.write_tables(document, tmp_path)
    assert "| saccade over stock | requests/s at saturation |" in document.read_text()
    assert "| image-448 | 1.50 [1.40, 1.60] |" in document.read_text()


def test_benchmarks_run_and_leave_their_reports(tmp_path: Path):
    document = tmp_path / "document.md"
    document.write_text(PLACE.format("planning"))
    flags = (f"--results={tmp_path / 'results'}", f"--document={document}")
    assert bench_all("--only=planning", "--quick", *flags) == 0
    written = json.loads((tmp_path / "results/planning.json").read_text())
    assert written["command"].startswith("saccade bench planning --json=")
    assert all(f"`{key}`" in document.read_text() for key in written["result"])


def test_a_document_that_is_not_there_is_named(tmp_path: Path, capsys):
    assert bench_all(f"--document={tmp_path / 'none.md'}", "--only-tables") == 2
    assert "none.md is no file" in capsys.readouterr().err


def test_every_benchmark_but_that_of_the_gpu_is_one_of_all():
    assert {name for name, *_ in cli._BENCHMARKS} == {*suite.SUITE, "kernels", "all"}
