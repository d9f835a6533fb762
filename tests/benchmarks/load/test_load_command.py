"""`saccade bench load` as a user runs it: vLLM's own generator against real small servers."""

import argparse
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from saccade.benchmarks import cli
from saccade.benchmarks.load import command
from saccade.benchmarks.load.generator import Generator, open_generator

ASKED_BEFORE = 4  # questions that tell whether the bundled model is served
WARMING_UP = 2
FAKE_TOKENS = 3  # of its answers


@pytest.fixture(scope="module")
def shared_generator() -> Iterator[Generator]:
    """Importing vLLM takes seconds: once for all tests."""
    with open_generator() as generator:
        yield generator


@pytest.fixture(autouse=True)
def one_generator(shared_generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "open_generator", lambda: nullcontext(shared_generator))


def bench(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="saccade bench")
    cli.add_arguments(parser)
    small = ("--profile=image-448", "--requests=8", f"--max-tokens={FAKE_TOKENS}", "--seed=3")
    return cli.run(parser.parse_args(["load", *small, *arguments]))


def loaded(server) -> list[dict]:
    """The requests of the load, in any order."""
    return [body for body in server.bodies if body.get("stream")]


def urls(bodies: list[dict]) -> list[str]:
    return [body["messages"][0]["content"][0]["image_url"]["url"] for body in bodies]


def test_one_server_gets_figures(fake_server, tmp_path: Path, capsys):
    files = {kind: tmp_path / "deep" / f"load.{kind}" for kind in ("json", "markdown", "svg")}
    flags = [f"--{kind}={file}" for kind, file in files.items()]
    more = ("--rates=200,80%", "--rounds=2", "--slo=e2e:60000,ttft:60000")
    assert bench(f"--url={fake_server.url}/v1/", *more, *flags) == 0
    output = capsys.readouterr().out
    name, *pairs = output.splitlines()[-1].split()
    result = {key: float(value) for key, value in (pair.split("=") for pair in pairs)}
    assert name == "RESULT"
    assert result["image_448_saturation_requests_per_second"] > 0
    assert result["image_448_80_ttft_p50_ms"] <= result["image_448_80_ttft_p99_ms"]

    bodies = loaded(fake_server)
    assert len(bodies) == WARMING_UP + 2 * 3 * 8  # rounds, rates (inf is what 80 % is of), requests
    assert len(set(urls(bodies))) == len(bodies), "no image is sent twice"
    assert {body["max_completion_tokens"] for body in bodies} == {FAKE_TOKENS}
    assert {body["min_tokens"] for body in bodies} == {FAKE_TOKENS}
    assert {body["temperature"] for body in bodies} == {0}

    report = json.loads(files["json"].read_text())
    assert report["date"]
    assert report["command"].startswith("saccade")
    assert report["machine"]["cpus"] >= 1
    rates = report["profiles"]["image-448"]["rates"]
    assert list(rates) == ["inf", "200", "80%"]
    rounds = {label: next(iter(rates[label]["servers"].values()))["rounds"] for label in rates}
    assert {len(of_rate) for of_rate in rounds.values()} == {2}
    saturation = rounds["inf"][0]["requests_per_second"]
    assert rounds["80%"][0]["rate"] == rounds["80%"][1]["rate"] == pytest.approx(0.8 * saturation)
    for run in (run for of_rate in rounds.values() for run in of_rate):
        assert run["requests_per_second"] == pytest.approx(8 / run["seconds"])
        assert run["goodput"] == pytest.approx(run["requests_per_second"])
        assert 0 < run["ttft_ms"]["p50"] <= run["e2e_ms"]["p50"] <= run["e2e_ms"]["p99"]
        assert run["cpu_seconds"] > 0  # the server is a process of this machine: this one
        assert run["memory_bytes"] > 0
    assert report["profiles"]["image-448"]["checks"] == {
        "answers": WARMING_UP + 48,
        "right": 0,
        "model_mistakes": 0,
        "near_ties": 0,
    }
    assert f"{report['date']}, " in files["markdown"].read_text()
    drawn = ElementTree.fromstring(files["svg"].read_text())
    assert len(drawn.findall("{*}g")) == 3  # to the first token, whole, saturation


def test_two_servers_get_the_same_requests_and_ratios(
    fake_server, other_server, tmp_path: Path, capsys
):
    file = tmp_path / "load.json"
    both = (f"--url={fake_server.url}", f"--versus={other_server.url}", f"--json={file}")
    assert bench(*both, "--rates=inf,50%", "--rounds=3") == 0
    assert "image_448_50_e2e_p99_ms=" in capsys.readouterr().out.splitlines()[-1]
    sent = [sorted(map(json.dumps, loaded(server))) for server in (fake_server, other_server)]
    assert sent[0] == sent[1]
    rates = json.loads(file.read_text())["profiles"]["image-448"]["rates"]
    for point in rates.values():
        ratio = point["ratios"]["requests_per_second"]
        assert ratio["low"] <= ratio["value"] <= ratio["high"]
    offered = [one["rounds"][0]["rate"] for one in rates["50%"]["servers"].values()]
    reference = list(rates["inf"]["servers"].values())[1]["rounds"][0]["requests_per_second"]
    assert offered == [pytest.approx(0.5 * reference)] * 2


@pytest.mark.parametrize(
    "behaviour", ["blue", "silent", "miscounted", "http_429", "stream_error", "cut", "malformed"]
)
def test_no_ratios_while_an_answer_is_wrong(
    fake_server, other_server, behaviour: str, tmp_path: Path, capsys
):
    fake_server.behaviours = [""] * (ASKED_BEFORE + WARMING_UP) + ["", behaviour]
    both = (f"--url={fake_server.url}", f"--versus={other_server.url}")
    file = tmp_path / "load.json"
    assert bench(*both, "--rates=inf", "--rounds=1", f"--json={file}") == 1
    assert capsys.readouterr().out.splitlines()[-1] == "RESULT correct=0"
    report = json.loads(file.read_text())
    assert report["result"] is report["profiles"] is None
    assert len(report["problems"]) == 1


def test_a_closed_loop_never_has_more_at_a_time(fake_server):
    assert bench(f"--url={fake_server.url}", "--rates=inf", "--concurrency=2") == 0
    assert fake_server.most_active == 2


def test_all_profiles_are_written_for_vllm(tmp_path: Path, capsys):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    args = parser.parse_args(["load", "--requests=1", "--seed=1", f"--write-dataset={tmp_path}"])
    assert cli.run(args) == 0
    commands = capsys.readouterr().out.splitlines()
    assert len(commands) == len(list(tmp_path.glob("*.jsonl"))) == len(command.PROFILES)
    for line in commands:
        assert line.startswith("vllm bench serve --backend openai-chat ")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (["--rates=0"], "--rates"),
        (["--rates=1,x"], "--rates"),
        (["--rates=inf%"], "--rates"),
        (["--rates=50%,50%"], "--rates"),
        (["--slo=ttft"], "--slo"),
        (["--slo=speed:3"], "--slo"),
        (["--slo=e2e:nan"], "--slo"),
        (["--profile=huge"], "--profile"),
        (["--requests=0"], "--requests"),
    ],
)
def test_wrong_use_is_named(wrong: list[str], named: str, capsys):
    with pytest.raises(SystemExit) as stopped:
        bench(*wrong)
    assert stopped.value.code == 2
    assert named in capsys.readouterr().err


def test_what_cannot_be_measured_is_one_line(fake_server, capsys):
    assert bench("--versus=http://127.0.0.1:9") == 2
    assert "--versus URL needs --url" in capsys.readouterr().err
    assert bench("--url=http://127.0.0.1:9") == 1
    assert "cannot talk to http://127.0.0.1:9" in capsys.readouterr().err
    assert bench(f"--url={fake_server.url}", f"--versus={fake_server.url}/") == 1
    assert "the same server" in capsys.readouterr().err


@pytest.mark.usefixtures("starts_engine")
def test_the_bundled_model_is_asked_what_it_knows(tmp_path: Path, capsys):
    file = tmp_path / "load.json"
    assert bench("--rates=inf", f"--json={file}", "--requests=16") == 0
    assert "RESULT image_448_saturation_requests_per_second=" in capsys.readouterr().out
    checks = json.loads(file.read_text())["profiles"]["image-448"]["checks"]
    assert checks["right"] + checks["model_mistakes"] == 3  # one in eight, and one to warm up
    assert checks["right"] > checks["model_mistakes"]
