"""`saccade batch` is stopped in every way, and goes on as if it had not been."""

import fcntl
import json
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from batch_server import batch, line, read_lines, running_batch_server, start_batch, write_lines

NAMES = [f"request {number}" for number in range(40)]
ENDLESS = 10**9


def finished(output: Path) -> list[str]:
    """The custom_ids of the whole lines."""
    whole = output.read_bytes().rpartition(b"\n")[0].splitlines() if output.exists() else []
    return [json.loads(one)["custom_id"] for one in whole]


def wait_for_lines(process, output: Path, count: int) -> None:
    while not output.exists() or output.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.002)


def kill(process) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()


def unbroken(folder: Path) -> list[dict]:
    with running_batch_server() as other:
        source = write_lines(folder / "unbroken.in", [line(name) for name in NAMES])
        assert batch(source, "--output", folder / "unbroken.out", url=other.url) == 0
    return by_id(read_lines(folder / "unbroken.out"))


def by_id(records):
    return sorted(records, key=lambda record: record["custom_id"])


@pytest.mark.parametrize(
    ("answers", "torn"),
    [(1, b""), (9, b'{"id": "batch_req_0000'), (31, b'{"id": "b\0\0\0'), (39, b"")],
)
def test_kill_9_loses_and_repeats_nothing(batch_server, tmp_path, answers, torn):
    source = write_lines(tmp_path / "in.jsonl", [line(name) for name in NAMES])
    output = tmp_path / "out.jsonl"
    batch_server.answers_before_it_holds = answers
    process = start_batch(source, "--output", output, url=batch_server.url)
    wait_for_lines(process, output, answers)
    kill(process)
    before = finished(output)
    assert len(before) == answers
    with output.open("ab") as file:
        file.write(torn)
    sent = len(batch_server.texts)
    batch_server.answers_before_it_holds = ENDLESS
    assert batch(source, "--output", output, url=batch_server.url) == 0
    assert by_id(read_lines(output)) == unbroken(tmp_path)
    assert [record["custom_id"] for record in read_lines(output)][:answers] == before
    assert len(batch_server.texts) - sent == len(NAMES) - answers
    times = Counter(batch_server.texts)
    assert all(times[name] == 1 for name in before)


def test_kill_9_again_and_again_in_full_flight(batch_server, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [line(name) for name in NAMES])
    output = tmp_path / "out.jsonl"
    batch_server.delay = 0.01
    repeated = Counter()
    for count in (3, 12, 25):
        process = start_batch(source, "--output", output, url=batch_server.url)
        wait_for_lines(process, output, count)
        kill(process)
        repeated.update(finished(output))
    assert batch(source, "--output", output, url=batch_server.url) == 0
    assert by_id(read_lines(output)) == unbroken(tmp_path)
    times = Counter(batch_server.texts)
    # Three kills, so what was finished at the first was there at all of them.
    assert all(times[name] == 1 for name, seen in repeated.items() if seen == 3)


def test_ctrl_c_waits_for_what_is_under_way(batch_server, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [line(name) for name in NAMES])
    output = tmp_path / "out.jsonl"
    batch_server.answers_before_it_holds = 5
    process = start_batch(source, "--output", output, url=batch_server.url)
    wait_for_lines(process, output, 5)
    process.send_signal(signal.SIGINT)
    assert "Ctrl-C again drops them" in process.stderr.readline()
    batch_server.answers_before_it_holds = ENDLESS
    said = process.communicate()[1]
    assert process.returncode == 130
    assert "of 40 are finished; the same command again goes on" in said
    assert sorted(finished(output)) == sorted(batch_server.texts)
    assert len(batch_server.texts) < 40
    assert batch(source, "--output", output, url=batch_server.url) == 0
    assert Counter(batch_server.texts) == Counter(NAMES)


def test_ctrl_c_twice_drops_it(batch_server, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [line(name) for name in NAMES])
    output = tmp_path / "out.jsonl"
    batch_server.answers_before_it_holds = 5
    process = start_batch(source, "--output", output, url=batch_server.url)
    wait_for_lines(process, output, 5)
    process.send_signal(signal.SIGINT)
    assert "Ctrl-C again drops them" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 130
    assert "interrupted, 5 of 40" in said
    assert "Traceback" not in said
    batch_server.answers_before_it_holds = ENDLESS
    assert batch(source, "--output", output, url=batch_server.url) == 0


def test_a_finished_batch_sends_nothing(batch_server, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [line("a"), line("b")])
    output = tmp_path / "out.jsonl"
    assert batch(source, "--output", output, url=batch_server.url) == 0
    written = output.read_bytes()
    assert batch(source, "--output", output, url=batch_server.url) == 0
    assert output.read_bytes() == written
    assert len(batch_server.texts) == 2
    # More of the same input is no other input.
    write_lines(source, [line("c"), line("b"), line("a")])
    assert batch(source, "--output", output, url=batch_server.url) == 0
    assert Counter(batch_server.texts) == Counter("abc")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([line("b"), line("c")], "line 1 answers custom_id 'a' of another input"),
        ([line("a", "changed"), line("b")], "line 1 answers custom_id 'a' of another input"),
    ],
)
def test_the_output_of_another_input_is_refused(batch_server, tmp_path, capsys, lines, told):
    output = tmp_path / "out.jsonl"
    given = ("--output", output, "--max-concurrency=1")
    first = write_lines(tmp_path / "in.jsonl", [line("a"), line("b")])
    assert batch(first, *given, url=batch_server.url) == 0
    written = output.read_bytes()
    assert batch(write_lines(tmp_path / "other", lines), *given, url=batch_server.url) == 2
    assert f"{output}, {told}" in capsys.readouterr().err
    assert output.read_bytes() == written
    assert len(batch_server.texts) == 2


@pytest.mark.parametrize("theirs", [b"notes", b"notes\n", b"{}\n", b'{"id": "x"}\n{"id": "b'])
def test_no_file_of_anybody_else_is_touched(batch_server, tmp_path, capsys, theirs):
    output = tmp_path / "out.jsonl"
    output.write_bytes(theirs)
    source = write_lines(tmp_path / "in.jsonl", [line("a")])
    for target in (output, source):
        before = target.read_bytes()
        assert batch(source, "--output", target, url=batch_server.url) == 2
        assert f"{target}, line 1 was not written by saccade batch" in capsys.readouterr().err
        assert target.read_bytes() == before
    assert batch_server.texts == []


def test_two_batches_do_not_write_one_file(batch_server, tmp_path, capsys):
    source = write_lines(tmp_path / "in.jsonl", [line("a")])
    output = tmp_path / "out.jsonl"
    with output.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert batch(source, "--output", output, url=batch_server.url) == 2
    assert "another batch is writing" in capsys.readouterr().err
    assert batch(source, "--output", output, url=batch_server.url) == 0
