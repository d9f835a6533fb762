"""The recipes of docs/load-testing.md and what their script takes for failure.

The script itself runs the tools; it downloads them.
"""

import argparse
import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest

from saccade.benchmarks import cli

SCRIPT = Path(__file__).parents[2] / "deploy" / "load_recipes.py"


@pytest.fixture(scope="module")
def recipes():
    spec = importlib.util.spec_from_file_location("load_recipes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_recipe_has_pinned_packages_and_a_check(recipes):
    found = {name: wanted.split() for name, wanted, _ in recipes._recipes()}
    assert set(found) == set(recipes._CHECKS) == {"vllm", "guidellm", "aiperf"}
    for wanted in found.values():
        assert all(re.fullmatch(r"[\w\[\]]+==[\d.]+", package) for package in wanted)


def test_our_own_command_of_a_recipe_is_one(recipes):
    (text,) = [text for name, _, text in recipes._recipes() if name == "vllm"]
    (line,) = re.findall(r"^saccade bench (.*)$", text, re.MULTILINE)
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    args = parser.parse_args(shlex.split(line.replace("$OUT", "folder")))
    assert args.write_dataset == Path("folder")
    written = {f"vllm-{name}.json" for name in args.profile}
    assert written == {"vllm-conversation.json", "vllm-video.json"}
    assert "for profile in conversation video" in text


TIMES = {"p50": 3.0, "avg": 3.0}


@pytest.mark.parametrize(
    ("tool", "file", "good", "bad"),
    [
        (
            "vllm",
            "vllm-video.json",
            {
                **{"failed": 0, "completed": 2, "num_prompts": 2, "request_throughput": 1.0},
                **{"output_throughput": 2.0, "median_e2el_ms": 5.0, "p99_e2el_ms": 6.0},
                **{"ttfts": [0.1, 0.2], "latencies": [0.3, 0.4]},
            },
            [{"failed": 1, "completed": 1}, {"ttfts": []}, {"ttfts": [0.1, 0.0]}],
        ),
        (
            "guidellm",
            "guidellm.json",
            {
                "request_totals": {"errored": 0, "successful": 4},
                "request_latency": {"successful": {"median": 1.0}},
                "time_to_first_token_ms": {"successful": {"median": 1.0}},
                "inter_token_latency_ms": {"successful": {"median": 1.0}},
            },
            [
                {"request_totals": {"errored": 1, "successful": 3}},
                {"request_totals": {"errored": 0, "successful": 0}},
                {"time_to_first_token_ms": {"successful": {"median": 0.0}}},
            ],
        ),
        (
            "aiperf",
            "deep/profile_export_aiperf.json",
            {
                "request_latency": TIMES,
                "time_to_first_token": TIMES,
                "inter_token_latency": TIMES,
                "request_throughput": TIMES,
            },
            [{"error_request_count": {"avg": 2.0}}, {"time_to_first_token": None}],
        ),
    ],
)
def test_failed_requests_and_empty_statistics_are_found(
    recipes, tool: str, file: str, good: dict, bad: list[dict], tmp_path: Path
):
    def problems(report: dict) -> list[str]:
        shown = {"benchmarks": [{"metrics": report}]} if tool == "guidellm" else report
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(json.dumps(shown))
        return list(recipes._CHECKS[tool](tmp_path))

    assert problems(good) == []
    for change in bad:
        assert len(problems({**good, **change})) >= 1


@pytest.mark.parametrize("tool", ["vllm", "guidellm", "aiperf"])
def test_a_tool_that_wrote_nothing_has_failed(recipes, tool: str, tmp_path: Path):
    assert list(recipes._CHECKS[tool](tmp_path))
