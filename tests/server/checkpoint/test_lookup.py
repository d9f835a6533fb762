"""Checkpoints that cannot be had: one line, soon, for each reason."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub import ANSWERS, COMMIT, hub

CHILD = Path(__file__).parents[2] / "support/server/lookup_child.py"
# Discards what is sent there: on a machine that has nobody at this port, connections are refused.
NOBODY = "http://127.0.0.1:9"


def run(command, folder, **environment):
    """Runs in ``folder``, with an empty cache there unless a test has put something in."""
    variables = {"HF_HOME": str(folder / "cache"), "HF_HUB_ETAG_TIMEOUT": "60", **environment}
    ours = ("HF_", "TRANSFORMERS_", "VLLM_USE_MODELSCOPE")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(ours) and not name.lower().endswith("_proxy")
    }
    variables["NO_PROXY"] = "127.0.0.1"
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


def cache(folder, model, *files):
    """Puts a model's configuration, and empty files, where the hub's libraries would."""
    at = folder / "cache" / "hub" / f"models--{model.replace('/', '--')}"
    (at / "refs").mkdir(parents=True)
    (at / "refs" / "main").write_text(COMMIT)
    (at / "snapshots" / COMMIT).mkdir(parents=True)
    (at / "snapshots" / COMMIT / "config.json").write_text("{}")
    for name in files:
        (at / "snapshots" / COMMIT / name).touch()
    return at / "snapshots" / COMMIT


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
        "busy/model": ("answers 429 when asked for the model 'busy/model'", "try again later"),
        "broken/model": ("answers 503 when asked for the model 'broken/model'", "try again later"),
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


REFUSING = ["unnamed", "unknown", "gated", "forbidden", "nothub", "busy", "broken"]
READ = """
import json, sys
from transformers.utils.hub import cached_file
def read(model):
    model, _, revision = model.partition("@")
    try:
        return cached_file(model, "config.json", revision=revision or None) is not None
    except OSError:
        return False
json.dump({model: read(model) for model in sys.argv[1:]}, sys.stdout)
"""


def test_what_the_cache_holds_is_refused_only_where_transformers_refuses_it(tmp_path):
    refusing = [f"{owner}/model" for owner in REFUSING]
    for model in refusing:
        cache(tmp_path, model, "model.safetensors")
    cache(tmp_path, "old/model")
    with hub() as url:
        models = (*refusing, "old/model@v2")
        said, offline, errors = look_up(tmp_path, *models, HF_ENDPOINT=url)
        # Retried for minutes by the hub's libraries.
        patient = [one for one in models if one not in ("busy/model", "broken/model")]
        read = run(["-c", READ, *patient], tmp_path, HF_ENDPOINT=url)
    assert "has no revision 'v2'" in said.pop("old/model@v2")
    assert said == dict.fromkeys(refusing)
    assert json.loads(read.stdout) == {one: one != "old/model@v2" for one in patient}
    assert not offline, "the hub answers"
    lines = errors.splitlines()
    assert len(lines) == len(refusing)
    for owner, line in zip(REFUSING, lines, strict=True):
        assert f"{url} answers {ANSWERS[owner][0]}" in line
        assert f"the model '{owner}/model'" in line


def index(snapshot, *shards):
    weights = {f"layer{i}": shard for i, shard in enumerate(shards)}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))


@pytest.mark.parametrize(
    ("files", "indexed", "offline"),
    [
        ((), (), False),
        (("tokenizer.json",), (), False),
        (("model.safetensors",), (), True),
        (("a.safetensors", "b.safetensors"), ("a.safetensors", "b.safetensors"), True),
        (("model-00001-of-00002.safetensors",), (), False),
        (
            ("model-00001-of-00002.safetensors",),
            ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
            False,
        ),
    ],
    ids=["config", "tokenizer", "weights", "shards", "shard without index", "interrupted"],
)
def test_offline_only_with_all_the_weights(tmp_path, files, indexed, offline):
    snapshot = cache(tmp_path, "owner/kept", *files)
    if indexed:
        index(snapshot, *indexed)
    said, now_offline, errors = look_up(tmp_path, "owner/kept", HF_ENDPOINT=NOBODY)
    assert (said, now_offline) == ({"owner/kept": None}, offline)
    assert len(errors.splitlines()) == 1
    assert ("without all of its weights" in errors) != offline


@pytest.mark.parametrize(
    ("value", "asked"), [("False", True), ("0", True), ("1", False), ("True", False)]
)
def test_modelscope_is_chosen_as_by_vllm(value, asked, tmp_path):
    environment = {"HF_ENDPOINT": NOBODY, "VLLM_USE_MODELSCOPE": value}
    said, _, _ = look_up(tmp_path, "nosuchmodel", **environment)
    assert (said["nosuchmodel"] is not None) == asked


CHECK = """
import sys
from argparse import Namespace
from saccade.server.engine.flags import check_model
for names in sys.argv[1:]:
    model, config = names.split()
    try:
        check_model(Namespace(model=model, hf_config_path=config, revision=None, hf_token=None,
                              download_dir=None, trust_remote_code=False))
    except ValueError as error:
        print("said", names, error)
"""


def test_a_configuration_elsewhere_and_the_weights_are_both_looked_up(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "weights").mkdir()
    refused = "there is no model 'unknown/model'"
    # Weights need no config.json of their own; then the given one is read.
    expected = {
        "unknown/model config": refused,
        "weights unknown/model": refused,
        "empty/model config": "'empty/model' is not a Qwen2.5-VL model",
        "weights config": "'weights' is not a Qwen2.5-VL model",
    }
    with hub() as url:
        done = run(["-c", CHECK, *expected], tmp_path, HF_ENDPOINT=url)
    lines = [line for line in done.stdout.splitlines() if line.startswith("said ")]
    assert len(lines) == len(expected), done.stderr
    for line, (names, start) in zip(lines, expected.items(), strict=True):
        assert line.startswith(f"said {names} {start}")


def test_a_hub_out_of_reach_is_named_unless_the_cache_has_the_model(tmp_path):
    cache(tmp_path, "owner/kept", "model.safetensors")
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


@pytest.mark.parametrize("command", ["serve", "plan", "doctor"])
def test_commands_end_with_one_line_that_says_why(command, tmp_path):
    image = str(Path(__file__).parents[3] / "demo" / "media" / "temple.jpg")
    named = {"serve": [], "plan": [image, "--model"], "doctor": ["--model"]}[command]
    done = run(
        ["-m", "saccade.server.cli", command, *named, "nosuchmodel"], tmp_path, HF_ENDPOINT=NOBODY
    )
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if "Triton" not in line]
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"saccade {command}: error: ")
    assert f"cannot reach {NOBODY} to look for the model 'nosuchmodel'" in lines[0]
