"""`saccade plan` on real files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from published import published_checkpoint, saved_again

from saccade.server.cli import main

MEDIA = Path(__file__).parents[3] / "demo" / "media"
CLIP, PHOTO = str(MEDIA / "bunny.mp4"), str(MEDIA / "temple.jpg")


@pytest.fixture
def plan(capsys):
    """Runs the command; its exit code, its output, its errors."""

    def run(*arguments):
        code = main(["plan", *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def report(plan):
    def run(*arguments):
        code, output, errors = plan("--json", *arguments)
        assert (code, errors) == (0, "")
        return json.loads(output)["media"]

    return run


def test_table(plan):
    code, output, _ = plan(PHOTO, CLIP)
    assert code == 0
    photo, clip, times, together = output.splitlines()[1:]
    assert "640 x 427" in photo
    assert "1 x 30 x 46" in photo
    assert "5 x 20 x 34" in clip
    assert "10 of 132 frames" in times
    assert together.split() == ["together", f"{345 + 850:,}"]


def test_every_control_counts(report):
    (photo,) = report(PHOTO, "--max-pixels", "50176")
    assert photo["resized_size"][0] * photo["resized_size"][1] <= 50176
    (photo,) = report(PHOTO, "--min-pixels", "1000000")
    assert photo["resized_size"][0] * photo["resized_size"][1] >= 1000000
    (photo,) = report(PHOTO, "--resized-width", "280", "--resized-height", "140")
    assert photo["resized_size"] == [280, 140]
    (low,) = report(str(MEDIA / "temple.jpg"), "--detail", "low")
    assert low["resized_size"][0] * low["resized_size"][1] <= 512 * 512
    (clip,) = report(CLIP, "--fps", "4", "--video-start", "1", "--video-end", "3")
    assert clip["frame_times"][0] >= 1.0
    assert clip["frame_times"][-1] <= 3.0
    assert len(clip["frame_times"]) == 8
    (clip,) = report(CLIP, "--nframes", "6")
    assert len(clip["frame_indices"]) == 6
    (clip,) = report(CLIP, "--min-frames", "20")
    assert len(clip["frame_indices"]) == 20
    (clip,) = report(CLIP, "--max-frames", "4")
    assert len(clip["frame_indices"]) == 4
    (clip,) = report(CLIP, "--total-pixels", "600000")
    assert clip["tokens"] < 850
    (clip,) = report("--frames", PHOTO, PHOTO, "--sample-fps", "4", "--raw-fps", "30")
    assert (clip["seconds_per_grid"], clip["source_fps"]) == (0.5, 30.0)


def test_a_picture_beside_a_clip_is_planned_without_the_flags_of_clips(report):
    alone, (beside, clip) = report(PHOTO), report(PHOTO, CLIP, "--fps", "1")
    assert [beside] == alone
    assert len(clip["frame_indices"]) == 4


def test_the_checkpoint_decides(report, tmp_path):
    config = {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "vision_config": {}}
    config["vision_config"] = {"patch_size": 14, "spatial_merge_size": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"max_pixels": 112 * 112}))
    Image.new("RGB", (448, 448)).save(tmp_path / "grey.png")
    (picture,) = report(str(tmp_path / "grey.png"), "--model", str(tmp_path))
    assert (picture["resized_size"], picture["tokens"]) == ([112, 112], 4)
    # Where newer versions of transformers save it; they read it first.
    nested = {"image_processor": {"size": {"shortest_edge": 1, "longest_edge": 224 * 224}}}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    (picture,) = report(str(tmp_path / "grey.png"), "--model", str(tmp_path))
    assert (picture["resized_size"], picture["tokens"]) == ([224, 224], 16)


@pytest.mark.parametrize("make", [published_checkpoint, saved_again])
def test_checkpoints_as_they_are_published_cut_like_the_reference(report, tmp_path, make):
    folder = make(tmp_path / "checkpoint")
    assert report(PHOTO, CLIP, "--model", str(folder)) == report(PHOTO, CLIP)


def test_what_cannot_be_planned_is_named_and_the_others_are(plan, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    code, output, errors = plan(PHOTO, str(tmp_path / "text.jpg"), str(tmp_path / "none.png"))
    assert code == 1
    assert PHOTO in output
    assert ["text.jpg" in errors.splitlines()[0], "none.png" in errors.splitlines()[1]] == [
        True
    ] * 2
    assert len(errors.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([PHOTO, "--fps", "2"], "--fps: "),
        ([PHOTO, "--max-pixels", "0"], "--max-pixels: "),
        ([CLIP, "--fps", "2", "--nframes", "4"], "--fps: "),
        ([CLIP, "--detail", "low"], "--detail: "),
        ([PHOTO, "--resized-width", "28"], "--resized-width: "),
        ([PHOTO, "--model", str(MEDIA)], "--model: "),
    ],
)
def test_wrong_use_is_one_line_that_names_the_flag(plan, arguments, told):
    code, output, errors = plan(*arguments)
    assert (code, output) == (2, "")
    assert errors.startswith(f"saccade plan: error: {told}")
    assert len(errors.splitlines()) == 1


def test_it_starts_without_the_engine():
    script = (
        "import sys; from saccade.server.cli import main\n"
        f"assert main(['plan', {PHOTO!r}]) == 0\n"
        "assert not {'vllm', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
