"""`saccade batch`: requests, answers, failures and wrong use, against a real HTTP batch_server."""

import json
import os
import re
import subprocess
from email.utils import formatdate
from time import time

import pytest
from batch_server import batch, line, read_lines, write_lines

from saccade.server.commands.batch.client import read_retry_after
from saccade.server.commands.batch.pace import Pace
from saccade.server.commands.child import free_port, saccade_command


def content(record):
    return record["response"]["body"]["choices"][0]["message"]["content"]


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
def test_every_request_is_answered_as_in_openais_files(batch_server, tmp_path, end):
    names = [f"request {number}" for number in range(20)]
    source = write_lines(tmp_path / "in.jsonl", [line(name) for name in names])
    output = tmp_path / "out.jsonl"
    assert batch(source, "--output", output, url=batch_server.url + end) == 0
    records = {record["custom_id"]: record for record in read_lines(output)}
    assert sorted(records) == sorted(names)
    for name, record in records.items():
        assert set(record) == {"id", "custom_id", "response", "error"}
        assert record["id"].startswith("batch_req_")
        assert record["error"] is None
        assert record["response"]["status_code"] == 200
        assert record["response"]["request_id"] == f"id of {name}"
        assert content(record) == f"answer to {name}"
    assert "authorization" not in batch_server.headers[0]


def test_a_terminal_has_a_bar(batch_server, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [line(str(number)) for number in range(9)])
    reader, terminal = os.openpty()
    given = ("batch", source, "--output", tmp_path / "out", "--url", batch_server.url)
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    ended = subprocess.run([*saccade_command(), *given], stderr=terminal, env=environment)
    os.close(terminal)
    said = os.read(reader, 1 << 16).decode()
    os.close(reader)
    assert ended.returncode == 0
    assert "9/9" in said
    assert "at a time" in said
    assert "━" in said


def test_lines_elsewhere(batch_server, tmp_path, capsys):
    source = write_lines(tmp_path / "in.jsonl", [line(str(number)) for number in range(9)])
    assert batch(source, "--output", tmp_path / "out", url=batch_server.url) == 0
    out, error = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"9 of 9, \S+/s, \d at a time\n9 requests are finished: .*\n", error)


def test_answers_belong_to_their_requests_in_whatever_order_they_come(batch_server, tmp_path):
    lines = [line(str(number)) for number in range(30)]
    batch_server.troubles = {str(number): [(500, {})] for number in range(0, 30, 3)}
    output = tmp_path / "out.jsonl"
    assert batch(write_lines(tmp_path / "in", lines), "--output", output, url=batch_server.url) == 0
    records = read_lines(output)
    assert [record["custom_id"] for record in records] != [one["custom_id"] for one in lines]
    assert all(content(one) == f"answer to {one['custom_id']}" for one in records)


def test_the_key_is_sent(batch_server, tmp_path, monkeypatch, capsys):
    source = write_lines(tmp_path / "in.jsonl", [line("a")])
    monkeypatch.setenv("OPENAI_API_KEY", "one")
    monkeypatch.setenv("OTHER", "two")
    assert batch(source, "--output", tmp_path / "1", url=batch_server.url) == 0
    given = ("--api-key-env", "OTHER")
    assert batch(source, "--output", tmp_path / "2", *given, url=batch_server.url) == 0
    assert [sent["authorization"] for sent in batch_server.headers] == ["Bearer one", "Bearer two"]
    monkeypatch.delenv("OTHER")
    assert batch(source, "--output", tmp_path / "3", *given, url=batch_server.url) == 2
    assert "OTHER is not set" in capsys.readouterr().err


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("dated", [False, True])
def test_nothing_is_sent_before_the_server_wants_it(batch_server, tmp_path, status, dated):
    date = int(time()) + 3
    wait = formatdate(date, usegmt=True) if dated else "1"
    batch_server.troubles["a"] = [(status, {"Retry-After": wait})]
    batch_server.delay = 0.3  # of b, sent beside a: when it is answered, there is a slot for c
    source = write_lines(tmp_path / "in.jsonl", [line(name) for name in "abc"])
    output = tmp_path / "out.jsonl"
    assert batch(source, "--output", output, "--max-concurrency=2", url=batch_server.url) == 0
    first, second = batch_server.arrivals["a"]
    earliest = date if dated else first + 1
    assert second >= earliest
    assert batch_server.arrivals["b"][0] < earliest
    assert batch_server.arrivals["c"][0] >= earliest
    assert len(read_lines(output)) == 3


def test_a_wait_is_read_as_seconds_or_a_date():
    assert read_retry_after("2.5") == 2.5
    assert read_retry_after("-3") == 0
    assert read_retry_after("1e9") == 3600
    assert 58 < read_retry_after(formatdate(time() + 60, usegmt=True)) <= 60
    assert read_retry_after("Tue, 01 Jan 2019 00:00:00 GMT") == 0
    assert [read_retry_after(value) for value in (None, "soon", "nan", "")] == [None] * 4


def test_more_are_sent_at_a_time_while_all_is_well(batch_server, tmp_path):
    batch_server.delay = 0.05
    source = write_lines(tmp_path / "in.jsonl", [line(str(number)) for number in range(120)])
    given = (source, "--output", tmp_path / "out", "--max-concurrency=8")
    assert batch(*given, url=batch_server.url) == 0
    assert batch_server.most_active == 8


def test_a_full_server_is_not_pressed(batch_server, tmp_path):
    batch_server.delay, batch_server.slots = 0.01, 6
    source = write_lines(tmp_path / "in.jsonl", [line(str(number)) for number in range(150)])
    output = tmp_path / "out.jsonl"
    assert batch(source, "--output", output, "--retries=2", url=batch_server.url) == 0
    assert batch_server.answered == len(read_lines(output)) == 150
    # It tries more now and then: from half the slots to all takes some 20 answers.
    assert batch_server.most_active > 6
    assert len(batch_server.texts) - 150 < 30


async def test_pace_grows_by_one_a_round_and_halves_once_for_what_was_sent_together():
    pace = Pace(16)
    for _ in range(5):
        pace.went_well(busy=5)
    assert 5 < pace.limit < 5.3
    pace.went_well(busy=1)  # slots were free: their number says nothing
    assert pace.limit < 5.3
    pace.limit = 12.0
    pace.overloaded(1e12, 0)
    pace.overloaded(0.0, 0)
    assert pace.limit == 6
    for _ in range(1000):
        pace.went_well(busy=100)
    assert pace.limit == 16


@pytest.mark.parametrize("status", [0, 408, 409, 500, 502])
def test_failures_that_may_pass_are_tried_again(batch_server, tmp_path, status):
    batch_server.troubles["a"] = [(status, {})] * 2
    source = write_lines(tmp_path / "in.jsonl", [line("a"), line("b")])
    output = tmp_path / "out.jsonl"
    assert batch(source, "--output", output, "--retries=2", url=batch_server.url) == 0
    assert len(batch_server.arrivals["a"]) == 3
    assert {record["custom_id"] for record in read_lines(output)} == {"a", "b"}


def test_a_limit_of_tries(batch_server, tmp_path, capsys):
    batch_server.troubles["a"] = [(500, {})] * 3
    batch_server.troubles["b"] = [(0, {})] * 3
    source = write_lines(tmp_path / "in.jsonl", [line("a"), line("b"), line("c")])
    output = tmp_path / "out.jsonl"
    assert batch(source, "--output", output, "--retries=2", url=batch_server.url) == 1
    assert "2 of them failed" in capsys.readouterr().err
    records = {record["custom_id"]: record for record in read_lines(output)}
    assert records["a"]["response"]["status_code"] == 500
    assert records["b"]["response"] is None
    assert records["b"]["error"]["code"] == "no_answer"
    assert content(records["c"]) == "answer to c"
    # What failed is an answer, until it is to be asked again.
    assert batch(source, "--output", output, url=batch_server.url) == 1
    assert len(batch_server.texts) == 7
    assert batch(source, "--output", output, "--retry-failed", url=batch_server.url) == 0
    assert len(batch_server.texts) == 9
    assert sorted(record["custom_id"] for record in read_lines(output)) == ["a", "b", "c"]


@pytest.mark.parametrize("status", [301, 400, 401, 404, 422])
def test_other_answers_are_final(batch_server, tmp_path, status):
    batch_server.troubles["a"] = [(status, {"Location": "/v1/models"})]
    source = write_lines(tmp_path / "in.jsonl", [line("a")])
    output = tmp_path / "out.jsonl"
    assert batch(source, "--output", output, url=batch_server.url) == 1
    assert batch_server.texts == ["a"]
    (record,) = read_lines(output)
    assert record["error"] is None
    assert record["response"]["status_code"] == status
    assert record["response"]["body"] == {"error": {"message": "no: a"}}


def test_a_server_that_is_gone_fails_no_requests(tmp_path, capsys):
    source = write_lines(tmp_path / "in.jsonl", [line("a"), line("b")])
    output = tmp_path / "out.jsonl"
    url = f"http://127.0.0.1:{free_port()}"
    assert batch(source, "--output", output, "--retries=1", url=url) == 1
    said = capsys.readouterr().err
    assert "the server cannot be reached" in said
    assert "the same command again goes on" in said
    assert output.read_bytes() == b""


def test_a_server_that_takes_nothing_stops_the_batch(batch_server, tmp_path, capsys):
    batch_server.slots = 0
    source = write_lines(tmp_path / "in.jsonl", [line("a"), line("b")])
    output = tmp_path / "out.jsonl"
    assert batch(source, "--output", output, "--retries=2", url=batch_server.url) == 1
    assert "takes nothing any more: 429" in capsys.readouterr().err
    assert output.read_bytes() == b""


GOOD = json.dumps(line("good")).encode()


def bad(**changed: object) -> bytes:
    return json.dumps({**line("bad"), **changed}).encode()


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (b"{", "line 3: is no JSON"),
        (b"\xff", "line 3: is no JSON"),
        (b"[]", "line 3: must be a JSON object"),
        (b"[" * 100_000, "line 3: is no JSON"),
        (bad(custom_id=7), "line 3: custom_id must be a string"),
        (bad(custom_id=""), "line 3: custom_id must be a string"),
        (bad(method="GET"), 'line 3: method must be POST, not "GET"'),
        (bad(url="http://else.where/v1/x"), "line 3: url must be a path"),
        (bad(body=None), "line 3: body must be a JSON object"),
        (bad(body={"stream": True}), "line 3: body.stream"),
        (GOOD, "line 3: custom_id 'good' is also that of"),
    ],
)
def test_bad_lines_are_named_before_anything_is_sent(batch_server, tmp_path, capsys, second, told):
    source = tmp_path / "in.jsonl"
    source.write_bytes(GOOD + b"\r\n\n" + second + b"\n")
    output = tmp_path / "out.jsonl"
    assert batch(source, "--output", output, url=batch_server.url) == 2
    error = capsys.readouterr().err
    assert f"{source}, {told}" in error
    assert len(error.splitlines()) == 1
    assert "also that of" not in told or f"{source}, line 1" in error
    assert batch_server.texts == []
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["in.jsonl", "--images", "."], "either INPUT or --images"),
        ([], "either INPUT or --images"),
        (["in.jsonl", "--prompt", "x"], "--prompt goes with --images"),
        (["in.jsonl", "--file-urls"], "--file-urls goes with --images"),
        (["--images", "."], "--images needs --prompt"),
        (["--images", ".", "--prompt", "x", "--model=m"], "there is nothing to send"),
        (["none.jsonl"], "none.jsonl: No such file"),
        (["in.jsonl", "--output", "no/such/folder"], "no/such/folder: No such file"),
        (["in.jsonl", "--output", "/dev/null"], "/dev/null is not a file"),
        (["in.jsonl", "--url", "localhost:8000"], "--url: 'localhost:8000'"),
        (["in.jsonl", "--max-concurrency", "0"], "--max-concurrency: must be at least 1"),
        (["in.jsonl", "--timeout", "nan"], "--timeout: must be seconds"),
        (["in.jsonl", "--retries", "x"], "--retries"),
    ],
)
def test_wrong_use(tmp_path, monkeypatch, capsys, arguments, told):
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "in.jsonl", [line("a")])
    from saccade.server import cli

    try:
        code = cli.main(["batch", "--output=out", *arguments])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 1
