"""Parts of the server that need no engine."""

import argparse
import asyncio
import json
import subprocess
import sys

import pytest

from saccade.server.core import settings
from saccade.server.core.lifecycle import Lifecycle
from saccade.server.engine import flags as vllm_arguments
from saccade.server.engine.errors import checked_events
from saccade.server.request.vision import VisionTokens
from saccade.server.response.edits import VisionUsageEdit, finish_events, response_failure
from saccade.server.response.vision_report import VisionReportEdit


async def events(*given):
    for event in given:
        if isinstance(event, Exception):
            raise event
        yield event


async def read(source):
    return [event async for event in finish_events(source, [VisionUsageEdit(VisionTokens(3, 4))])]


async def test_an_error_in_mid_stream_is_an_event_without_internals():
    first, error, done = await read(events('data: {"choices":[]}\n\n', OSError("/secret/path")))
    assert first == 'data: {"choices":[]}\n\n'
    assert json.loads(error.removeprefix("data: "))["error"]["type"] == "server_error"
    assert "secret" not in error
    assert done == "data: [DONE]\n\n"


async def test_vllms_error_events_take_our_shape():
    theirs = {"message": "died at 0x7", "type": "InternalServerError", "param": None, "code": 500}
    for died, code in ((False, "internal_error"), (True, "engine_dead")):
        source = checked_events(
            events(f"data: {json.dumps({'error': theirs})}\n\n", "data: [DONE]\n\n"),
            lambda died=died: died,
        )
        event, done = await read(source)
        error = json.loads(event.removeprefix("data: "))["error"]
        assert (error["type"], error["code"]) == ("server_error", code)
        assert "0x7" not in error["message"]
        assert done == "data: [DONE]\n\n"


async def test_text_that_looks_like_usage_stays_as_it_is():
    event = "data: " + json.dumps({"choices": [{"delta": {"content": '"usage":{'}}]}) + "\n\n"
    assert await read(events(event)) == [event]


async def test_events_of_a_response_keep_their_names_and_an_error_is_its_own_event():
    created = 'event: response.created\ndata: {"type":"response.created","response":{}}\n\n'
    usage = {"type": "response.completed", "response": {"usage": {"input_tokens": 9}}}
    completed = f"event: response.completed\ndata: {json.dumps(usage, separators=(',', ':'))}\n\n"
    source = events(created, completed, OSError("/secret/path"))
    edits = [VisionUsageEdit(VisionTokens(3, 4))]
    sent = [event async for event in finish_events(source, edits, response_failure)]
    assert sent[0] == created
    assert sent[1].startswith("event: response.completed\ndata: {")
    details = json.loads(sent[1].partition("data: ")[2])["response"]["usage"]
    assert details["input_tokens_details"] == {"image_tokens": 3, "video_tokens": 4}
    name, data = sent[2].split("\n")[:2]
    error = json.loads(data.removeprefix("data: "))
    assert name == "event: error"
    assert (error["type"], error["sequence_number"]) == ("error", 2)
    assert error["message"] == error["error"]["message"]
    assert "secret" not in data
    assert len(sent) == 3


@pytest.mark.parametrize("ended", ["completed", "incomplete"])
async def test_the_report_stands_in_the_first_and_the_last_event_of_a_response(ended):
    kinds = ("response.created", "response.in_progress", f"response.{ended}")
    given = [{"type": kind, "response": {}} for kind in kinds]
    source = events(
        *(f"event: {e['type']}\ndata: {json.dumps(e, separators=(',', ':'))}\n\n" for e in given)
    )
    edits = [VisionReportEdit([])]
    sent = [event async for event in finish_events(source, edits, response_failure)]
    reports = [json.loads(event.partition("data: ")[2])["response"] for event in sent]
    assert reports == [{"vision": {"media": []}}, {}, {"vision": {"media": []}}]


async def test_usage_in_a_stream_gets_vision_tokens():
    (event,) = await read(events('data: {"usage":{"prompt_tokens":9}}\n\n'))
    details = json.loads(event.removeprefix("data: "))["usage"]["prompt_tokens_details"]
    assert details == {"image_tokens": 3, "video_tokens": 4, "prompt_tokens": 2}


async def test_a_second_signal_does_not_wait_for_requests():
    stopped = []
    lifecycle = Lifecycle(drain_timeout=900)
    lifecycle.begin()
    lifecycle.on_signal(stopped.append)
    assert (lifecycle.draining, stopped) == (True, [])
    lifecycle.on_signal(stopped.append)
    assert stopped == [True]


async def test_requests_that_outlast_the_drain_timeout_do_not_hold_the_server():
    stopped = asyncio.Event()
    lifecycle = Lifecycle(drain_timeout=0.01)
    lifecycle.begin()
    lifecycle.on_signal(lambda at_once: stopped.set())
    await stopped.wait()


def parse(*flags):
    parser = argparse.ArgumentParser()
    settings.add_settings_arguments(parser)
    return settings.load_settings(parser.parse_args(flags))


def test_flag_over_environment_over_default(monkeypatch, tmp_path):
    assert parse().max_media_bytes == 256 * 2**20
    monkeypatch.setenv("SACCADE_MAX_MEDIA_BYTES", "2MiB")
    monkeypatch.setenv("SACCADE_ALLOWED_MEDIA_DOMAINS", "a.org, b.org")
    monkeypatch.setenv("SACCADE_API_KEY", "one,two")
    assert parse().max_media_bytes == 2 * 2**20
    assert parse("--max-media-bytes=3MiB").max_media_bytes == 3 * 2**20
    assert parse().fetch_policy.allowed_domains == ("a.org", "b.org")
    assert [key.get_secret_value() for key in parse().api_key] == ["one", "two"]
    assert "two" not in repr(parse())
    assert parse(f"--media-root={tmp_path}").fetch_policy.media_root == tmp_path


@pytest.mark.parametrize(
    "flag",
    [
        "--max-media-bytes=0",
        "--max-media-bytes=much",
        "--media-root=/no/such/folder",
        "--media-total-timeout=nan",
        "--media-workers=0",
        "--drain-timeout=-1",
    ],
)
def test_a_bad_flag_is_named(flag):
    with pytest.raises(settings.SettingError, match=f"^{flag.partition('=')[0]}: "):
        parse(flag)


def test_a_bad_variable_is_named(monkeypatch):
    monkeypatch.setenv("SACCADE_DRAIN_TIMEOUT", "soon")
    with pytest.raises(settings.SettingError, match=r"^SACCADE_DRAIN_TIMEOUT: soon: "):
        parse()


def serving_arguments(*flags):
    parser = vllm_arguments.make_parser()
    vllm_arguments.add_engine_arguments(parser)
    settings.add_settings_arguments(parser)
    return parser.parse_args(["model", *flags])


@pytest.mark.parametrize(
    "flags",
    [
        ["--trust-request-mm-kwargs"],
        ["--enable-prompt-embeds"],
        ["--allowed-local-media-path=/"],
        ["--middleware=os.path"],
        ["--data-parallel-external-lb"],
        ["--data-parallel-rank=0"],
    ],
)
def test_flags_of_vllm_that_are_not_served(flags):
    with pytest.raises(ValueError, match=flags[0].partition("=")[0]):
        vllm_arguments.prepare_arguments(serving_arguments(*flags))


def test_a_model_of_another_architecture_is_refused_before_it_loads(tmp_path):
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    arguments = serving_arguments()
    arguments.model = str(tmp_path)
    with pytest.raises(ValueError, match="LlamaForCausalLM"):
        vllm_arguments.check_model(arguments)


def test_help_and_version_import_nothing_heavy():
    script = (
        "import sys; from saccade.server.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'vllm', 'fastapi', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "serve" in done.stdout


@pytest.mark.parametrize("arguments", [["serve", "x", "--max-model-len=lots"], ["nonsense"], []])
def test_mistakes_on_the_command_line_take_one_line(arguments, capsys):
    from saccade.server.cli import main

    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_what_vllms_configuration_says_of_flags_takes_one_line(capsys):
    from saccade.server.cli import main

    assert main(["serve", "demo", "--gpu-memory-utilization", "7", "--port", "0"]) == 2
    told = "saccade serve: error: gpu_memory_utilization: Input should be less than or equal to 1"
    assert capsys.readouterr().err.splitlines()[-1] == told
