"""`saccade chat` with one question, against a real server."""

import base64
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from saccade.server.cli import main
from saccade.server.commands.chat.client import base_url

MEDIA = Path(__file__).parents[3] / "demo" / "media"
CLIP, PHOTO = MEDIA / "bunny.mp4", MEDIA / "temple.jpg"


@pytest.fixture
def chat(chat_server, capsys, monkeypatch):
    """Runs the command here; its exit code, its output, its errors."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments, url=True):
        code = main(["chat", *(["--url", chat_server.url] if url else []), *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def chat_process(chat_server, chat_environment, tmp_path):
    """Runs the command in a process, with this on its stdin."""

    def run(*arguments, stdin=b""):
        return subprocess.run(
            [sys.executable, "-m", "saccade.server.cli", "chat", *arguments],
            input=stdin,
            env=chat_environment | {"OPENAI_BASE_URL": chat_server.url},
            cwd=tmp_path,
            capture_output=True,
            timeout=120,
        )

    return run


def test_stdout_holds_the_answer_alone(chat, chat_server):
    assert chat("What is it?") == (0, "A red car.\n", "")
    (body,) = chat_server.bodies
    assert body["model"] == "first"
    assert body["stream"] is True
    assert body["messages"] == [{"role": "user", "content": "What is it?"}]
    assert not {"max_tokens", "temperature", "vision"} & body.keys()


def test_options_of_the_request(chat, chat_server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    flags = (
        "--model",
        "other",
        "--max-tokens",
        "7",
        "--temperature",
        "0.5",
        "--system",
        "Briefly.",
    )
    assert chat(*flags, "--api-key-env", "MY_KEY", "Why?")[0] == 0
    (body,) = chat_server.bodies
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("other", 7, 0.5)
    assert body["messages"][0] == {"role": "system", "content": "Briefly."}
    assert chat_server.keys == ["Bearer secret"]


def test_files_become_data_with_their_controls(chat, chat_server, tmp_path):
    misnamed = tmp_path / "photo.mp4"
    misnamed.write_bytes(PHOTO.read_bytes())
    code, _, told = chat(
        *("--image", str(misnamed), "--video", str(CLIP), "--image", "https://example.com/a.png"),
        *("--max-pixels", "50176", "--fps", "1.5", "--video-end", "3", "What?"),
    )
    assert code == 0
    image, video, remote, text = chat_server.bodies[0]["messages"][0]["content"]
    head, _, data = image["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    assert base64.b64decode(data) == PHOTO.read_bytes()
    assert {key: value for key, value in image.items() if key != "image_url"} == {
        "type": "image_url",
        "max_pixels": 50176,
    }
    head, _, data = video["video_url"]["url"].partition(",")
    assert head == "data:video/mp4;base64"
    assert base64.b64decode(data) == CLIP.read_bytes()
    assert (video["fps"], video["video_end"], video["max_pixels"]) == (1.5, 3.0, 50176)
    assert remote["image_url"] == {"url": "https://example.com/a.png"}
    assert text == {"type": "text", "text": "What?"}
    assert "[image: photo.mp4, 640 x 427, JPEG" in told


def test_json(chat, chat_server):
    chat_server.vision = {"media": [{"kind": "image", "tokens": 4}], "warnings": ["be\x1bware"]}
    code, printed, told = chat("--json", "--image", str(PHOTO), "What?")
    answer = json.loads(printed)
    assert code == 0
    assert printed.count("\n") == 1
    assert 0 < answer.pop("ttft_seconds") <= answer.pop("seconds")
    assert answer == {
        "answer": "A red car.",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
        "model": "told",
        "vision": chat_server.vision,
    }
    assert chat_server.bodies[0]["vision"] == {"report": True}
    assert "[be·ware]" in told


def test_other_servers_are_not_asked_for_what_they_do_not_know(chat, chat_server, tmp_path):
    boxes = str(tmp_path / "found.png")
    assert chat("--json", "--boxes", boxes, "--image", str(PHOTO), "What?")[0] == 0
    assert "vision" not in chat_server.bodies[0]


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("refuse", "400: must be below ·[31m9 (param: messages[0].fps)"),
        ("detail", 'error: 404: {"detail": "Not Found"}'),
        ("stream_error", "the engine died"),
        ("stream_text", "error: overloaded"),
        ("cut", "ended the answer before it was whole"),
        ("drop", "no connection to"),
        ("malformed", "does not stream as OpenAI's API"),
    ],
)
def test_failures_are_one_line(chat, chat_server, behaviour, said):
    chat_server.behaviour = behaviour
    code, printed, told = chat("What?")
    assert code == 1
    assert printed == ("" if behaviour in ("refuse", "detail") else "A red car.\n")
    assert told.startswith("saccade chat: error: ")
    assert said in told
    assert told.count("\n") == 1


def test_no_server_and_no_model(chat, chat_server):
    code, printed, told = chat("--url", "http://127.0.0.1:9", "What?", url=False)
    assert (code, printed) == (1, "")
    assert told.startswith("saccade chat: error: no connection to http://127.0.0.1:9/v1: ")
    chat_server.models = ()
    assert chat("What?")[::2] == (
        1,
        f"saccade chat: error: {chat_server.url}/v1/models names no model; try --model NAME\n",
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--image", "missing.png", "What?"), "missing.png: No such file or directory"),
        (("--image", "/", "What?"), "/: is no file"),
        (("--image", str(CLIP), "What?"), "is no image but an MP4 video"),
        (("--video", str(PHOTO), "What?"), "is no video but a JPEG image"),
        (("--image", __file__, "What?"), "is no image but text"),
        (("--fps", "2", "--image", str(PHOTO), "What?"), "--fps applies to videos"),
        (("--max-pixels", "9", "What?"), "--max-pixels applies to images and videos"),
        (("--max-pixels", "0", "--image", str(PHOTO), "What?"), "--max-pixels: "),
        (("--resized-width", "28", "--image", str(PHOTO), "What?"), "--resized-width: "),
        (("--max-tokens", "0", "What?"), "--max-tokens: "),
        (("--temperature", "nan", "What?"), "--temperature: "),
        (("--boxes", "/no/such/a.png", "What?"), "--boxes: there is no folder /no/such"),
        (("--api-key-env", "NOT_SET", "What?"), "NOT_SET is not set"),
        (("--url", "localhost:8000", "What?"), "--url: 'localhost:8000' is no http"),
        ((" ",), "the question is empty"),
    ],
)
def test_wrong_use_is_told_before_anything_is_sent(chat, chat_server, arguments, said):
    code, printed, told = chat(*arguments)
    assert (code, printed, chat_server.bodies) == (2, "", [])
    assert told.startswith("saccade chat: error: ")
    assert said in told
    assert told.count("\n") == 1


def test_a_cut_answer_fails_only_if_asked(chat, chat_server):
    chat_server.finish_reason = "length"
    assert chat("What?") == (0, "A red car.\n", "[cut by the limit on its length]\n")
    assert chat("--fail-on-length", "What?")[:2] == (3, "A red car.\n")


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://a:8000", "http://a:8000/v1"),
        ("http://a:8000/v1/", "http://a:8000/v1"),
        ("https://a/prefix", "https://a/prefix/v1"),
        ("https://a/v1beta/openai/", "https://a/v1beta/openai"),
    ],
)
def test_with_or_without_the_version(given, used):
    assert base_url(given) == used


@pytest.mark.parametrize("url", ["ftp://a", "http://", "http://a:99999", "http://[", "http://a b"])
def test_what_is_no_url(url):
    with pytest.raises(ValueError, match=r".+"):
        base_url(url)


def test_stdin_is_the_question(chat_process, chat_server):
    for arguments in ((), ("-",)):
        ended = chat_process(*arguments, stdin="Was ist\ndas, ü?\n".encode())
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"A red car.\n", b"")
    assert chat_server.questions() == [[("user", "Was ist\ndas, ü?")]] * 2


def test_stdin_that_is_no_question(chat_process, chat_server):
    picture = io.BytesIO()
    Image.new("RGB", (4, 4)).save(picture, "PNG")
    for stdin, said in ((b"", b"empty"), (picture.getvalue(), b"--image")):
        ended = chat_process(stdin=stdin)
        assert (ended.returncode, ended.stdout) == (2, b"")
        assert said in ended.stderr
    assert chat_server.bodies == []


def test_a_pipe_gets_exactly_what_the_model_said(chat_process, chat_server):
    chat_server.pieces = ("\x1b[31m**red**", "\ud83d", " \u202e&#27;\n")
    ended = chat_process("What?")
    assert ended.stdout.decode() == "\x1b[31m**red**? \u202e&#27;\n\n"


def test_without_a_reader_and_without_stdin(chat_server, chat_environment, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    command = f'exec "{sys.executable}" -m saccade.server.cli chat --url {chat_server.url}'
    for ending, code, said in (("What?", 1, b""), ("<&-", 2, b"no question, and stdin is closed")):
        ended = subprocess.run(
            ["/bin/sh", "-c", f"{command} {ending}"],
            stdout=writer,
            stderr=subprocess.PIPE,
            env=chat_environment,
            cwd=tmp_path,
        )
        assert ended.returncode == code
        assert said in ended.stderr
        assert b"Traceback" not in ended.stderr
        assert b"Exception" not in ended.stderr
    os.close(writer)


def test_interrupted(chat_server, chat_environment, tmp_path):
    chat_server.behaviour = "hang"
    process = subprocess.Popen(
        [sys.executable, "-m", "saccade.server.cli", "chat", "--url", chat_server.url, "What?"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=chat_environment,
        cwd=tmp_path,
    )
    assert process.stdout.read(len("A red car.")) == b"A red car."
    process.send_signal(2)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out, errors) == (130, b"\n", b"")
    assert chat_server.closed.wait(30)


def test_it_starts_without_torch(chat_environment, tmp_path):
    code = (
        "import sys; from saccade.server.cli import main; main(['chat', '--url', 'x', 'What?'])\n"
        "from saccade.server.commands.chat.boxes import marks_read\n"
        "print(marks_read('[{\"bbox_2d\": [1, 2, 3, 4]}]', (9, 9))[0].numbers)\n"
        "print(sorted({'torch', 'vllm', 'transformers', 'av'} & sys.modules.keys()))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], env=chat_environment, cwd=tmp_path, capture_output=True
    )
    assert ended.stdout.split(b"\n")[:2] == [b"(1, 2, 3, 4)", b"[]"], ended.stderr
