"""`saccade bench clip-path`: what a long video costs before the engine, beside stock vLLM."""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from blake3 import blake3

from saccade.benchmarks.common.arguments import positive
from saccade.benchmarks.common.report import conclude, say
from saccade.benchmarks.common.stock import SAMPLING_FLAG, NoStock
from saccade.benchmarks.common.workloads import encode_mp4, pan, repeated
from saccade.benchmarks.preprocessing.path_client import WAYS, PathError, PathProcess, Way
from saccade.demo.training.batch import patchify
from saccade.media.controls import VideoControls
from saccade.media.decode.probe import probe_video
from saccade.media.decode.video import decode_video
from saccade.media.limits import MediaLimits
from saccade.media.planning.plan import VideoPlan, VideoSource, VisionGeometry, plan_video

_EPILOG = """examples:
  saccade bench clip-path
  saccade bench clip-path --rounds 1 --json clip-path.json

From the bytes of a chat request with a file: URL of a clip to the message that would go to the
engine; no engine runs. Saccade and stock vLLM, each in a process of its own, take two frames a
second, at most 768, at the reference's frame sizes (which stock vLLM has to be told). One clip at a
time, by turns; figures are medians of the rounds. Unless both ways show exactly the frames that
their rules choose, no figures are printed.

The last line is RESULT, for clips of 60 s and of 600 s: cpu_ratio_ (stock's CPU seconds over ours)
wall_ratio_ (our seconds over stock's) memory_ (our peak above idle over the resized frames' own
size); growth= (our peak for 120 frames of 600 s over that for 120 frames of 60 s, the bytes of
the files aside).
"""
_SEGMENT, _FPS = 6, 30  # seconds that are drawn and encoded, and then repeated; frames a second
_SAMPLED = 2.0  # frames a second
# What qwen-vl-utils caps frames at, and vLLM leaves whole.
_SIZE = {"shortest_edge": 128 * 28**2, "longest_edge": 768 * 28**2}
STOCK_VIDEO_FLAGS = (
    SAMPLING_FLAG,
    f"--mm-processor-kwargs={json.dumps({'size': _SIZE, 'cap_pixels_per_frame': True})}",
)
_FEW_FRAMES = 120


@dataclass(frozen=True)
class Clip:
    """A video to be made."""

    width: int
    height: int
    seconds: int

    def encoded(self) -> bytes:
        """H.264 in MP4, a key frame every 6 s."""
        frames = pan(self.width, self.height, _SEGMENT * _FPS, 0, 0)
        segment = encode_mp4(frames, self.width, self.height, _FPS)
        return repeated(segment, self.seconds // _SEGMENT)


CLIPS = {"60s": Clip(1920, 1080, 60), "600s": Clip(1280, 720, 600)}
_SHORT = Clip(1280, 720, 60)  # otherwise as the long one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the benchmark's flags."""
    parser.description = "Measures the path of long videos without an engine, beside stock vLLM's."
    parser.epilog = _EPILOG
    parser.add_argument("--rounds", type=positive(int), default=3, help="of each (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to this file")


def run(args: argparse.Namespace) -> int:
    """Run the benchmark; returns the exit code."""
    try:
        with tempfile.TemporaryDirectory() as place:
            figures, problems = _measure(Path(place), args.rounds)
    except (NoStock, PathError) as error:
        print(f"saccade bench: error: {error}", file=sys.stderr)
        return 1
    result = None if problems else _result(figures)
    more = {"arguments": {"rounds": args.rounds}, "clips": figures if result else None}
    return conclude("clip-path", result, problems, _table(figures), args.json, more)


Figures = dict[str, dict[str, float]]
Children = Mapping[Way, PathProcess]


def _measure(place: Path, rounds: int) -> tuple[Figures, list[str]]:
    sizes = {}
    for name, clip in {**CLIPS, "short": _SHORT}.items():
        say(f"making {clip.width}x{clip.height}, {clip.seconds} s")
        data = clip.encoded()
        (place / f"{name}.mp4").write_bytes(data)
        sizes[name] = len(data)
    say("starting both media paths")
    stock_options = (*STOCK_VIDEO_FLAGS, f"--allowed-local-media-path={place}")
    with (
        PathProcess("ours", media_root=place) as ours,
        PathProcess("stock", options=stock_options) as stock,
    ):
        children: Children = {"ours": ours, "stock": stock}
        figures: Figures = {}
        problems = []
        for name in CLIPS:
            say(name)
            files = [_body(place, name)]
            frames, found = _differences(children, files, (place / f"{name}.mp4").read_bytes())
            problems += [f"{name}: {problem}" for problem in found]
            answers = {way: [children[way].ask("measure", files, memory=True)] for way in WAYS}
            for number in range(1, rounds):
                for way in WAYS if number % 2 else reversed(WAYS):
                    answers[way].append(children[way].ask("measure", files, memory=True))
            for way in WAYS:
                medians = {
                    key: statistics.median(one[key] for one in answers[way])
                    for key in answers[way][0]
                }
                figures[f"{name}, {way}"] = {**medians, "frames": frames, "file": sizes[name]}
        for name in ("short", "600s"):
            few = _body(place, name, nframes=_FEW_FRAMES)
            answer = ours.ask("measure", [few], memory=True)
            figures[f"{name}, {_FEW_FRAMES} frames"] = {**answer, "file": sizes[name]}
    return figures, problems


def _body(place: Path, clip: str, **controls: object) -> str:
    """The file of a chat request with this video."""
    part = {"type": "video_url", "video_url": {"url": f"file://{place}/{clip}.mp4"}, **controls}
    message = {"role": "user", "content": [part]}
    file = place / f"{clip}{len(controls)}.json"
    file.write_text(json.dumps({"model": "demo", "messages": [message]}), encoding="utf-8")
    return str(file)


def _differences(children: Children, files: list[str], clip: bytes) -> tuple[int, list[str]]:
    """Bytes of our frames, and which way does not show the frames it should.

    The two choose frames by different rules, qwen-vl-utils' and transformers'. One decoder is asked
    for the frames of both.
    """
    source = probe_video(clip, MediaLimits())
    plan = plan_video(source, VideoControls(fps=_SAMPLED), VisionGeometry())
    step = plan.source_frames / len(plan.frame_indices)
    theirs = torch.arange(0, plan.source_frames, step).int().tolist()
    plans = {"ours": plan, "stock": replace(plan, frame_indices=tuple(theirs))}
    problems, sent = [], 0
    for way in WAYS:
        (seen,) = children[way].ask("check", files)
        if seen["digest"] != _digest(clip, source, plans[way]):
            problems.append(f"{way} shows other frames: {seen['grid']} patches")
        if way == "ours":
            sent = seen["sent"]
    return sent, problems


def _digest(clip: bytes, source: VideoSource, plan: VideoPlan) -> str:
    """Of these frames, in the order of patches that stock vLLM sends."""
    frames, _ = decode_video(clip, source, plan, MediaLimits())
    return blake3(patchify(frames).data).hexdigest()


def _result(figures: Figures) -> dict[str, float]:
    result = {}
    for name in CLIPS:
        ours, stock = figures[f"{name}, ours"], figures[f"{name}, stock"]
        result[f"cpu_ratio_{name}"] = stock["cpu"] / ours["cpu"]
        result[f"wall_ratio_{name}"] = ours["wall"] / stock["wall"]
        result[f"memory_{name}"] = ours["peak"] / ours["frames"]
    peaks = {
        name: figures[f"{name}, {_FEW_FRAMES} frames"]["peak"]
        - figures[f"{name}, {_FEW_FRAMES} frames"]["file"]
        for name in ("short", "600s")
    }
    return {**result, "growth": peaks["600s"] / peaks["short"]}


def _table(figures: Figures) -> str:
    """For a terminal."""
    lines = [f"{'':<20}{'CPU s':>10}{'wall s':>10}{'MB sent':>10}{'peak MB':>10}{'file MB':>10}"]
    for name, one in figures.items():
        memory = "".join(f"{one[key] / 1e6:>10.1f}" for key in ("bytes", "peak", "file"))
        lines.append(f"{name:<20}{one['cpu']:>10.2f}{one['wall']:>10.2f}{memory}")
    return "\n".join(lines)
