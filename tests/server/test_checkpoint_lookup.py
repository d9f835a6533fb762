"""Checkpoints that cannot be had: one line, soon, for each reason."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub import ANSWERS, COMMIT, hub

CHILD = Path(__file__).parents[1] / "support" / "lookup_child.py"
# Discards what is sent there: on a machine that has nobody at this port, connections are refused.
NOBODY = "http://127.0.0.1:9"


def run(command, folder, **environment):
    """Runs in ``folder``, with an empty cache there unless a test has put something in."""
    variables = {"HF_HOME": str(folder / "cache"), "HF_HUB_ETAG_TIMEOUT": "60", **environment}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**kept, **variables},
        timeout=120,
    )


def look_up(folder, *models, **environment):
    """What is said of each model; whether the process is offline after that; its errors."""
    done = run([str(CHILD), *models], folder, **environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for line in filter(None, found["said"].values()):
        assert "\n" not in line
    return found["said"], found["offline"], done.stderr


def cache(folder, model):
    """Puts a model's configuration where the hub's libraries would."""
    at = folder / "cache" / "hub" / f"models--{model.replace('/', '--')}"
    (at / "refs").mkdir(parents=True)
    (at / "refs" / "main").write_text(COMMIT)
    (at / "snapshots" / COMMIT).mkdir(parents=True)
    (at / "snapshots" / COMMIT / "config.json").write_text("{}")


def test_what_the_hub_says(tmp_path):
    models = [f"{owner}/model" for owner in ANSWERS if owner != "old"]
    with hub() as url:
        said, offline, errors = look_up(tmp_path, *models, "old/model@v2", HF_ENDPOINT=url)
    assert (offline, errors) == (False, "")
    assert said.pop("good/model") is None
    expected = {
        "unnamed/model": ("refuses access to the model 'unnamed/model' (401)", "the name"),
        "unknown/model": ("no model 'unknown/model' on", "hf auth login"),
        "gated/model": ("'gated/model' is gated", f"{url}/gated/model"),
        "forbidden/model": ("refuses access to the model 'forbidden/model' (403)", "HF_TOKEN"),
        "empty/model": ("'empty/model' has no config.json",),
        "nothub/model": ("no model 'nothub/model' on", "check the name"),
        "broken/model": ("cannot reach", "it answers 503"),
        "old/model@v2": ("'old/model' has no revision 'v2'",),
    }
    assert said.keys() == expected.keys()
    for model, parts in expected.items():
        assert all(part in said[model] for part in parts), said[model]


@pytest.mark.parametrize("model", ["silent/model", "dripping/model"])
def test_a_hub_that_does_not_answer_is_left(model, tmp_path):
    with hub() as url:
        said, offline, errors = look_up(tmp_path, model, HF_ENDPOINT=url, HF_HUB_ETAG_TIMEOUT="1")
    assert (offline, errors) == (False, "")
    assert f"cannot reach {url} to look for the model {model!r}" in said[model]
    assert "timed out" in said[model] or "no answer within 2 s" in said[model]


def test_a_hub_out_of_reach_is_named_unless_the_cache_has_the_model(tmp_path):
    cache(tmp_path, "owner/kept")
    said, offline, errors = look_up(tmp_path, "nosuchmodel", HF_ENDPOINT=NOBODY)
    assert (offline, errors) == (False, "")
    assert f"cannot reach {NOBODY}" in said["nosuchmodel"]
    assert str(tmp_path / "cache" / "hub") in said["nosuchmodel"]
    said, offline, errors = look_up(tmp_path, "owner/kept", HF_ENDPOINT=NOBODY)
    assert (said, offline) == ({"owner/kept": None}, True)
    assert len(errors.splitlines()) == 1
    assert "comes from the cache" in errors


def test_offline_only_the_cache_is_asked(tmp_path):
    cache(tmp_path, "owner/kept")
    said, _, errors = look_up(
        tmp_path, "owner/kept", "nosuchmodel", "owner/kept@v2", HF_HUB_OFFLINE="1"
    )
    assert errors == ""
    assert said.pop("owner/kept") is None
    assert all(line.startswith("HF_HUB_OFFLINE is set") for line in said.values())


def test_what_must_be_a_folder_is_called_one(tmp_path):
    (tmp_path / "checkpoints" / "empty").mkdir(parents=True)
    folders = ["./nosuch", "/no/such", "a/b/c", "~/x", "nosuch/", "c:\\x"]
    # Nobody is asked about them.
    said, _, _ = look_up(tmp_path, *folders, "checkpoints/empty", "two words", HF_ENDPOINT=NOBODY)
    assert said.pop("checkpoints/empty").startswith("the folder 'checkpoints/empty' has no config")
    assert said.pop("two words") == "'two words' is neither a folder nor a Hugging Face model id"
    assert said.keys() == set(folders)
    for folder, line in said.items():
        assert line == f"there is no folder {folder!r} (from {tmp_path})"


def test_what_may_be_a_folder_or_an_id_is_both(tmp_path):
    (tmp_path / "owner").mkdir()
    cache(tmp_path, "owner/kept")
    said, _, _ = look_up(tmp_path, "owner/nosuch", "owner/kept", HF_ENDPOINT=NOBODY)
    assert said["owner/kept"] is None
    no_folder = f"there is no folder 'owner/nosuch' (from {tmp_path}); "
    assert said["owner/nosuch"].startswith(no_folder)
    assert f"cannot reach {NOBODY}" in said["owner/nosuch"]


@pytest.mark.parametrize("command", ["serve", "plan"])
def test_commands_end_with_one_line_that_says_why(command, tmp_path):
    files = [str(Path(__file__).parents[2] / "demo" / "media" / "temple.jpg"), "--model"]
    arguments = [command, *(files if command == "plan" else ()), "nosuchmodel"]
    done = run(["-m", "saccade.server.cli", *arguments], tmp_path, HF_ENDPOINT=NOBODY)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if "Triton" not in line]
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"saccade {command}: error: ")
    assert f"cannot reach {NOBODY} to look for the model 'nosuchmodel'" in lines[0]
