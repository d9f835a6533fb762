"""`saccade chat` and `saccade batch` against a real `saccade serve demo`: what it says is right."""

import base64
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from batch_server import batch, read_lines, start_batch, write_lines
from PIL import Image, ImageChops

from saccade.demo.questions import GROUNDING, SHAPES, SIGN, Medium
from saccade.demo.world.answers import boxes_of, iou
from saccade.server.cli import main
from saccade.server.commands.child import LIGHT_FLAGS, ServerProcess

STAR = "What colour is the star?"
# With the answer, and the tokens of the prompt, which README.md shows too.
ASKED = ((SHAPES, STAR, "green", 80), (SIGN, "Read the text.", "OPEN", 58))
REQUESTS = 60


@pytest.fixture(scope="module")
def chat_server(starts_engine: None) -> Iterator[SimpleNamespace]:
    """In place of the one that says what a test wants; the fixture `terminal` takes it as well."""
    with ServerProcess("demo", LIGHT_FLAGS) as server:
        server.wait_ready(600)
        yield SimpleNamespace(url=server.url)


@pytest.fixture
def url(chat_server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return chat_server.url


@pytest.mark.parametrize(("medium", "question", "answer", "_"), ASKED)
def test_a_question_about_an_image(url, capsys, medium, question, answer, _):
    assert main(["chat", "--url", url, "--image", str(medium.file), question]) == 0
    assert capsys.readouterr().out == f"{answer}\n"


def test_json_tells_what_the_model_saw(url, capsys):
    assert main(["chat", "--json", "--url", url, "--image", str(SHAPES.file), STAR]) == 0
    turn = json.loads(capsys.readouterr().out)
    assert (turn["answer"], turn["finish_reason"], turn["model"]) == ("green", "stop", "demo")
    assert turn["usage"]["prompt_tokens"] == 80
    assert turn["usage"]["prompt_tokens_details"]["image_tokens"] == 48
    assert 0 < turn["ttft_seconds"] <= turn["seconds"]
    (image,) = turn["vision"]["media"]
    # 224 x 168 pixels: in patches of 14, merged two by two into tokens.
    assert (image["grid"], image["tokens"]) == ([1, 12, 16], 48)


def test_a_second_turn_is_about_the_image_of_the_first(terminal, tmp_path):
    session = terminal("--picture", "none")
    session.say(f"/image {SHAPES.file}", "[image: shapes.jpg, 224 x 168, JPEG")
    session.say(STAR, "green")
    session.say("And the triangle?", "yellow")
    session.say("/save talk.json", "[saved: talk.json]")
    assert session.end() == 0
    said = [
        (one["role"], one["content"]) for one in json.loads((tmp_path / "talk.json").read_text())
    ]
    assert [role for role, _ in said] == ["user", "assistant"] * 2
    assert [said[1][1], said[3][1]] == ["green", "yellow"]


def test_a_box_is_drawn_where_the_thing_is_in_the_file(url, tmp_path):
    """The file is four times as large as what the model sees, and so is the box."""
    (seen,) = boxes_of(GROUNDING.answer)
    large, drawing = tmp_path / "large.png", tmp_path / "found.png"
    with Image.open(SHAPES.file) as image:
        size = (4 * image.width, 4 * image.height)
        resized = [f"--resized-width={image.width}", f"--resized-height={image.height}"]
        image.convert("RGB").resize(size).save(large)
    given = ["--image", str(large), *resized, "--boxes", str(drawing), GROUNDING.text]
    assert main(["chat", "--url", url, *given]) == 0
    with Image.open(large) as before, Image.open(drawing) as after:
        assert after.size == size
        changed = ImageChops.difference(before, after.convert("RGB")).getbbox()
    assert changed is not None
    assert iou(changed, [4 * number for number in seen]) > 0.7


def request(custom_id: str, medium: Medium, question: str) -> dict:
    content = [medium.part(), {"type": "text", "text": question}]
    message = {"role": "user", "content": content}
    body = {"model": "demo", "max_tokens": 32, "temperature": 0, "messages": [message]}
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": body,
    }


def with_a_failure(folder: Path) -> Path:
    """A file of two requests that have answers, and between them one whose image is none."""
    lines = [request(medium.file.name, medium, question) for medium, question, *_ in ASKED]
    broken = request("broken", SHAPES, STAR)
    text = base64.b64encode(b"no image").decode()
    broken["body"]["messages"][0]["content"][0]["image_url"]["url"] = (
        f"data:image/png;base64,{text}"
    )
    return write_lines(folder / "in.jsonl", [lines[0], broken, lines[1]])


def test_each_line_has_its_answer_or_its_error(url, tmp_path):
    output = tmp_path / "out.jsonl"
    assert batch(with_a_failure(tmp_path), "--output", output, url=url) == 1
    records = {one["custom_id"]: one for one in read_lines(output)}
    assert set(records) == {"shapes.jpg", "broken", "sign.jpg"}
    for medium, _, answer, tokens in ASKED:
        response = records[medium.file.name]["response"]
        assert response["status_code"] == 200
        assert response["body"]["choices"][0]["message"]["content"] == answer
        assert response["body"]["usage"]["prompt_tokens"] == tokens
    refused = records["broken"]["response"]
    assert refused["status_code"] == 400
    assert refused["body"]["error"]["param"] == "messages[0].content[0]"


def test_parquet_has_the_answers_in_columns_of_their_types(url, tmp_path):
    import pyarrow
    import pyarrow.parquet

    output = tmp_path / "out.parquet"
    given = ("--format=parquet", "--output", output)
    assert batch(with_a_failure(tmp_path), *given, url=url) == 1
    table = pyarrow.parquet.read_table(output)
    text, number = pyarrow.string(), pyarrow.int64()
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == {
        "custom_id": text,
        "status": number,
        "answer": text,
        "prompt_tokens": number,
        "completion_tokens": number,
        "error": text,
    }
    shapes, broken, sign = table.to_pylist()
    for row, (medium, _, answer, tokens) in zip((shapes, sign), ASKED, strict=True):
        assert (row["custom_id"], row["status"]) == (medium.file.name, 200)
        assert (row["answer"], row["prompt_tokens"]) == (answer, tokens)
        assert row["completion_tokens"] > 0
        assert row["error"] is None
    assert (broken["custom_id"], broken["status"]) == ("broken", 400)
    assert broken["answer"] is broken["prompt_tokens"] is broken["completion_tokens"] is None
    assert broken["error"] == "not a JPEG, PNG, WebP, GIF or BMP image, but text"


def test_the_fields_of_a_schema_are_columns_of_parquet(url, tmp_path):
    import pyarrow.parquet

    images = tmp_path / "images"
    images.mkdir()
    (images / "shapes.jpg").write_bytes(SHAPES.file.read_bytes())
    colour = {"type": "string", "enum": ["red", "green", "blue"]}
    schema = tmp_path / "seen.json"
    wanted = {"type": "object", "properties": {"colour": colour}, "required": ["colour"]}
    schema.write_text(json.dumps({**wanted, "additionalProperties": False}))
    output = tmp_path / "seen.parquet"
    given = ("--images", images, "--prompt", STAR, "--schema", schema, "--format=parquet")
    assert batch(*given, "--output", output, url=url) == 0
    (row,) = pyarrow.parquet.read_table(output).to_pylist()
    assert (row["custom_id"], row["colour"]) == ("shapes.jpg", "green")
    assert json.loads(row["answer"]) == {"colour": "green"}


def told(output: Path) -> dict[str, tuple]:
    """What each request came to, without what differs from one time to the next."""
    records = read_lines(output)
    found = {}
    for record in records:
        body = record["response"]["body"]
        (choice,) = body["choices"]
        usage = (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"])
        said = (record["response"]["status_code"], choice["message"]["content"], *usage)
        found[record["custom_id"]] = (*said, choice["finish_reason"], record["error"])
    assert len(found) == len(records), "a request is there twice"
    return found


def test_kill_9_in_the_middle_changes_no_answer(url, tmp_path):
    lines = [request(f"{n}", *ASKED[n % 2][:2]) for n in range(REQUESTS)]
    source = write_lines(tmp_path / "in.jsonl", lines)
    unbroken, output = tmp_path / "unbroken.jsonl", tmp_path / "out.jsonl"
    assert batch(source, "--output", unbroken, url=url) == 0
    process = start_batch(source, "--output", output, "--max-concurrency=2", url=url)
    try:
        while not output.exists() or output.read_bytes().count(b"\n") < 9:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
    before = output.read_bytes().rpartition(b"\n")[0]
    assert 9 <= len(before.splitlines()) < REQUESTS
    assert batch(source, "--output", output, url=url) == 0
    assert output.read_bytes().startswith(before + b"\n")
    assert told(output) == told(unbroken)
    assert {number: said[1] for number, said in told(output).items()} == {
        f"{n}": ASKED[n % 2][2] for n in range(REQUESTS)
    }
