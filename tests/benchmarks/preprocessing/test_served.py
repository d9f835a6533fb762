"""Served front ends before an idle engine: what it is given, and what is compared."""

import argparse
import math
import os
from types import SimpleNamespace

import numpy as np
import pytest

from saccade.benchmarks import cli
from saccade.benchmarks.common import rust
from saccade.benchmarks.common.workloads import draw_image
from saccade.benchmarks.preprocessing import served
from saccade.benchmarks.preprocessing.idle_worker import DIGITS, PIXELS
from saccade.benchmarks.preprocessing.images import Case
from saccade.demo.training.batch import patchify
from saccade.server.commands.child import ServerProcess

SMALL = Case("PNG", 224, 168)  # whole patches: nothing is resized
NAMES = ("ours", "stock", "stock, 2 processes", "rust")


def pixels(index: int) -> np.ndarray:
    return patchify(draw_image(SMALL.width, SMALL.height, 0, index)[None])


@pytest.mark.usefixtures("starts_engine")
def test_the_engine_says_which_pixels_it_was_given(tmp_path, monkeypatch):
    monkeypatch.setenv(PIXELS, str(tmp_path))
    with ServerProcess("demo", served._FLAGS) as server:
        server.wait_ready(600)
        bodies = [served._body(SMALL, 0, index, DIGITS) for index in range(3)]
        _, problems, names = served._ask(server, bodies, 2)
        assert not problems
        for index, name in enumerate(names):
            assert np.array_equal(np.load(tmp_path / f"{name}.npy"), pixels(index))
        known = len(list(tmp_path.iterdir()))
        assert served._ask(server, [served._body(SMALL, 0, 0, 1)], 1)[2] == ["0"]
        assert len(list(tmp_path.iterdir())) == known, "answers of one token say nothing"


@pytest.fixture
def args(monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    monkeypatch.setattr(served, "CASES", (SMALL,))
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return parser.parse_args(["host-path", "--versus=rust", "--requests=2", "--rounds=2"])


def servers(ours, theirs, of_rust) -> dict:
    urls = (ours.url, theirs.url, theirs.url, of_rust.url)
    return {
        name: SimpleNamespace(url=url, pid=os.getpid(), alive=lambda: True)
        for name, url in zip(NAMES, urls, strict=True)
    }


@pytest.mark.parametrize(("off", "wrong"), [(1, False), (3, True)])
def test_pixels_of_rust_may_be_a_little_off(
    fake_server, other_server, args, tmp_path, off: int, wrong: bool
):
    """One server answers "A red car", the other "A blue car"."""
    np.save(tmp_path / "A red car", pixels(0))
    shift = np.where(pixels(0) < 128, off, -off)
    np.save(tmp_path / "A blue car", (pixels(0) + shift).astype(np.uint8))
    other_server.behaviours = ["blue"] * args.requests
    problems, notes = served._check(servers(fake_server, fake_server, other_server), tmp_path, args)
    assert bool(problems) == wrong
    assert any(f"by {off} levels at most" in note for note in notes) != wrong
    assert f"a video, {NAMES[3]}: answered" in notes or wrong


def test_pixels_of_stock_have_to_be_equal(fake_server, other_server, args, tmp_path):
    np.save(tmp_path / "A red car", pixels(0))
    other_server.behaviours = ["blue"] * 9
    problems, _ = served._check(servers(fake_server, other_server, fake_server), tmp_path, args)
    assert [problem.rpartition(": ")[2] for problem in problems[:2]] == [
        "stock has other pixels",
        "stock, 2 processes has other pixels",
    ]


def test_every_server_gets_the_same_and_is_measured(fake_server, other_server, args):
    rounds = [
        [served._body(SMALL, 0, index, 1) for index in range(number, number + args.requests)]
        for number in range(args.rounds + 1)
    ]
    four = servers(fake_server, other_server, other_server)
    figures, failed = served._measure(four, rounds, 2)
    assert not failed
    assert figures.keys() == set(NAMES)
    assert len(fake_server.bodies) == args.requests * (args.rounds + 1)
    measured = {
        (case, cores, clients): figures
        for case in (served.MIDDLE, served.LARGE)
        for cores in (1, 2)
        for clients in served.CLIENTS
    }
    assert all(value > 0 for value in served._result(measured, 2).values())
    assert "1920x1080" in served._table(measured)


def test_a_server_that_fails_or_has_died_has_no_figures(fake_server, other_server, args):
    fake_server.behaviours = ["http_429"]
    bodies = [served._body(SMALL, 0, 0, 1)]
    four = servers(fake_server, other_server, other_server)
    four["rust"].alive = lambda: False
    four["rust"].log_tail = lambda lines: "Killed"
    figures, failed = served._measure(four, [bodies, bodies], 1)
    assert failed.pop("ours").startswith("request 0: http_429 ")
    assert failed == {"rust": "it has died: Killed"}
    assert {which for which, one in figures.items() if math.isnan(one.wall)} == {"ours", "rust"}
    measured = {
        (case, 1, clients): figures
        for case in (served.MIDDLE, served.LARGE)
        for clients in served.CLIENTS
    }
    assert math.isnan(served._result(measured, 1)["rate_rust_1080p"])


def test_a_wheel_that_cannot_be_had_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(rust.NoRust, match=r"vllm==0\.\d+\.\d+ cannot be downloaded: "):
        rust.rust_frontend()
    assert not [*tmp_path.rglob("vllm-rs*")]
