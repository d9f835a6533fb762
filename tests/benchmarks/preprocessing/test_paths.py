"""The media path beside vLLM's own, in real processes; what they show is compared to the bit."""

import argparse
import dataclasses
import json
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest

from saccade.benchmarks import cli
from saccade.benchmarks.common.workloads import encode_mp4, pan, repeated
from saccade.benchmarks.preprocessing import images, videos
from saccade.benchmarks.preprocessing.path_client import PathError, PathProcess


def bench(*given: str) -> int:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.run(parser.parse_args(given))


def test_pictures(tmp_path: Path, capsys):
    report = tmp_path / "report.json"
    assert bench("host-path", "--requests=2", "--rounds=1", f"--json={report}") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("RESULT cpu_ratio_1080p=")
    written = json.loads(report.read_text())
    assert written["result"].keys() == {
        "cpu_ratio_1080p",
        "cpu_ratio_12mp",
        "floor_ratio_1080p",
        "rate_ratio_1080p",
        "scaling_all_cores",
        "bytes_ratio",
    }
    assert written["result"]["bytes_ratio"] == 0.5
    assert all(value > 0 for value in written["result"].values())
    paths = {"ours, all", "stock, all", "ours, 1", "stock, 1"}
    assert written["cases"].keys() == {case.name for case in images.CASES}
    for name, figures in written["cases"].items():
        assert figures.keys() == paths | ({"floor, all"} if "JPEG" in name else set())


def test_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    clips = {"60s": videos.Clip(320, 240, 12), "600s": videos.Clip(256, 192, 120)}
    monkeypatch.setattr(videos, "CLIPS", clips)
    monkeypatch.setattr(videos, "_SHORT", dataclasses.replace(clips["600s"], seconds=12))
    monkeypatch.setattr(videos, "_FEW_FRAMES", 8)
    report = tmp_path / "report.json"
    assert bench("clip-path", "--rounds=1", f"--json={report}") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("RESULT cpu_ratio_60s=")
    written = json.loads(report.read_text())
    assert all(value > 0 for value in written["result"].values())
    assert written["clips"]["600s, ours"]["bytes"] > written["clips"]["60s, ours"]["bytes"]


class Shows:
    """A path that shows the same of everything."""

    def __init__(self, digest: str) -> None:
        self._answer = {"grid": [1, 4, 4], "digest": digest, "sent": 1}

    def ask(self, job: str, files: list[str]) -> list[dict]:
        assert job == "check"
        return [self._answer] * len(files)


def test_other_pixels_are_found():
    one, other = {"grid": [1, 4, 4], "digest": "a"}, {"grid": [1, 4, 4], "digest": "b"}
    case = images.CASES[0]
    (found,) = images._differences(case, {"ours": [one, one], "stock": [one, other]})
    assert found.startswith("JPEG 1024x768, image 1: ")


def test_other_frames_are_found():
    clip = encode_mp4(pan(112, 112, 48, 0, 0), 112, 112, 24)
    children = {"ours": Shows("a"), "stock": Shows("b")}
    _, found = videos._differences(children, ["0"], clip)
    assert [problem.partition(" ")[0] for problem in found] == ["ours", "stock"]


def test_a_failed_job_names_its_path(tmp_path: Path):
    body = tmp_path / "body.json"
    url = {"url": "data:image/jpeg;base64,AAAA"}
    part = {"type": "image_url", "image_url": url}
    body.write_text(
        json.dumps({"model": "demo", "messages": [{"role": "user", "content": [part]}]})
    )
    with PathProcess("ours") as ours, pytest.raises(PathError, match="ours: DecodeError"):
        ours.ask("measure", [str(body)])


def test_a_repeated_clip_plays_again():
    once = encode_mp4(pan(112, 112, 12, 0, 0), 112, 112, 24)
    with av.open(BytesIO(repeated(once, 3))) as container:
        frames = list(container.decode(video=0))
    assert [round(frame.time * 24) for frame in frames] == list(range(36))
    shown = [frame.to_ndarray(format="rgb24") for frame in frames]
    assert all(np.array_equal(shown[i], shown[i % 12]) for i in range(36))
    assert not np.array_equal(shown[0], shown[11])
