"""Conversations about the same media with three servers, two of which could be one another's."""

import argparse
import json
import os
from types import SimpleNamespace

import httpx
import pytest

from saccade.benchmarks import cli
from saccade.benchmarks.serving import again, conversations
from saccade.benchmarks.serving.conversations import make_conversation, serving

URLS = [f"file {number}" for number in range(30)]


@pytest.fixture(autouse=True)
def small_files(monkeypatch) -> None:
    monkeypatch.setattr(conversations, "_PHOTO", (64, 48))
    monkeypatch.setattr(conversations, "_SCREEN", (80, 50))


@pytest.fixture
def small(tmp_path) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    given = ["--only=chat", "--rounds=1", "--seed=3", f"--json={tmp_path / 'report.json'}"]
    return parser.parse_args(["again", *given])


def servers(ours, stock) -> dict:
    urls = {"ours": ours.url, **dict.fromkeys(again._STOCK, stock.url)}
    return {name: SimpleNamespace(url=url, pid=os.getpid()) for name, url in urls.items()}


def have(args, ours, stock) -> int:
    return again.report(args, again.compare(args, servers(ours, stock), args.only))


def test_equal_servers_get_ratios(fake_server, other_server, small, capsys):
    assert have(small, fake_server, other_server) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("RESULT chat_cpu_again=")
    report = json.loads(small.json.read_text())
    assert report["result"].keys() == {"chat_cpu_again", "chat_cpu_stock", "chat_ttft_stock"}
    # Two rounds, the first of which warms up, of eight turns: to each the same.
    assert len(fake_server.bodies) == 16
    assert len(other_server.bodies) == 32
    assert {json.dumps(body) for body in fake_server.bodies} == {
        json.dumps(body) for body in other_server.bodies
    }


@pytest.mark.parametrize("behaviour", ["blue", "miscounted", "http_429", "silent"])
def test_no_ratios_while_answers_are_wrong_or_differ(
    fake_server, other_server, small, behaviour, capsys
):
    fake_server.behaviours = ["", "", behaviour]
    assert have(small, fake_server, other_server) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "RESULT correct=0"
    assert json.loads(small.json.read_text())["result"] is None


def shown(talk, turn: int) -> list[list[str]]:
    """The media and texts of each message of a turn."""
    messages = json.loads(talk.body(turn, "m", 4, URLS[: len(talk.files)]))["messages"]
    return [
        [message["content"]]
        if isinstance(message["content"], str)
        else [part.get("text") or part["image_url"]["url"] for part in message["content"]]
        for message in messages
    ]


def test_each_turn_sends_all_of_it_again():
    talk = make_conversation("chat", 1)
    first, third = shown(talk, 0), shown(talk, 2)
    assert first == [[*URLS[:8], "What is this?"]]
    assert third[:1] == first
    assert third[1:] == [["I see."], ["And what else?"], ["I see."], ["Which colours are there?"]]
    assert len({file.data for file in talk.files}) == 8
    assert make_conversation("chat", 1) == talk
    assert make_conversation("chat", 2).files[0] != talk.files[0]


def test_an_agent_sees_one_more_screenshot_and_drops_the_oldest():
    talk = make_conversation("agent", 1)
    assert len(talk.files) == 12 + talk.turns - 1
    for turn in range(talk.turns):
        (message,) = shown(talk, turn)
        assert message[:-1] == URLS[turn : turn + 12]


def test_served_files_are_counted_and_revalidated():
    with serving({"a": b"12345"}) as (root, sent):
        first = httpx.get(f"{root}a")
        assert first.content == b"12345"
        again = httpx.get(f"{root}a", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert sent() == 5
