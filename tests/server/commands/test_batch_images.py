"""`saccade batch` with a folder of images, and its tables."""

import base64
import csv
import io
import json
from pathlib import Path

import pytest
from batch_server import batch, line, read_lines, write_lines
from PIL import Image

from saccade.server.commands.batch.tables import _cell, _kind, read_answer

SCHEMA = {
    "title": "a bill",
    "type": "object",
    "properties": {
        "total": {"type": "number"},
        "paid": {"type": "boolean"},
        "items": {"type": "array"},
        "status": {"type": ["string", "null"]},
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    (images / "deep" / "er").mkdir(parents=True)
    for number, name in enumerate(["b.jpg", "a.PNG", "deep/c.jpeg", "deep/er/d é.webp"]):
        form = {"jpg": "JPEG", "jpeg": "JPEG", "PNG": "PNG", "webp": "WEBP"}[name.split(".")[1]]
        Image.new("RGB", (20 + number, 30), "teal").save(images / name, form)
    (images / "notes.txt").write_text("no image")
    return images


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_one_request_an_image(batch_server, tmp_path, folder):
    output = tmp_path / "out.jsonl"
    given = ("--images", folder, "--prompt", "What is it?", "--max-tokens=9", "--output", output)
    assert batch(*given, url=batch_server.url) == 0
    assert {one["custom_id"] for one in read_lines(output)} == {"a.PNG", "b.jpg"}
    sizes = {}
    for body in batch_server.bodies:
        assert body["model"] == "the-model"
        assert body["max_tokens"] == 9
        assert "response_format" not in body
        image, text = body["messages"][0]["content"]
        assert text == {"type": "text", "text": "What is it?"}
        kind, _, data = image["image_url"]["url"].partition(";base64,")
        sizes[kind] = Image.open(io.BytesIO(base64.b64decode(data))).size
    assert sizes == {"data:image/jpeg": (20, 30), "data:image/png": (21, 30)}
    # The rest of the folder, later.
    assert batch(*given, "--recursive", url=batch_server.url) == 0
    assert {one["custom_id"] for one in read_lines(output)} == {
        "a.PNG",
        "b.jpg",
        "deep/c.jpeg",
        "deep/er/d é.webp",
    }
    assert len(batch_server.texts) == 4


def test_another_question_is_another_batch(batch_server, tmp_path, folder, capsys):
    output = tmp_path / "out.jsonl"
    given = ("--images", folder, "--output", output)
    assert batch(*given, "--prompt=one", url=batch_server.url) == 0
    assert batch(*given, "--prompt=two", url=batch_server.url) == 2
    assert "of another input" in capsys.readouterr().err


def test_paths_in_place_of_bytes(batch_server, tmp_path, folder):
    given = ("--images", folder, "--prompt=x", "--model=m", "--recursive", "--file-urls")
    assert batch(*given, "--output", tmp_path / "out", url=batch_server.url) == 0
    urls = {body["messages"][0]["content"][0]["image_url"]["url"] for body in batch_server.bodies}
    assert (folder / "deep/er/d é.webp").as_uri() in urls
    assert {body["model"] for body in batch_server.bodies} == {"m"}


def test_the_fields_of_a_schema_are_columns(batch_server, tmp_path, folder):
    schema = tmp_path / "bill.json"
    schema.write_text(json.dumps(SCHEMA))
    output = tmp_path / "out.csv"
    batch_server.answers["x"] = json.dumps(
        {"total": 2.5, "paid": True, "items": [1, "a"], "status": "né\nw", "more": 1}
    )
    given = ("--images", folder, "--prompt=x", "--schema", schema, "--format=csv")
    assert batch(*given, "--output", output, url=batch_server.url) == 0
    asked = batch_server.bodies[0]["response_format"]
    assert asked["type"] == "json_schema"
    assert asked["json_schema"] == {"name": "a_bill", "schema": SCHEMA, "strict": True}
    first, second = rows(output)
    assert first == second | {"custom_id": "a.PNG"}
    assert second == {
        "custom_id": "b.jpg",
        "status": "200",
        "answer": batch_server.answers["x"],
        "prompt_tokens": "3",
        "completion_tokens": "1",
        "error": "",
        "total": "2.5",
        "paid": "true",
        "items": '[1, "a"]',
        "answer.status": "né\nw",
    }
    journal = tmp_path / "out.csv.jsonl"
    assert len(read_lines(journal)) == 2
    # An answer that was cut off says so.
    journal.unlink()
    batch_server.answers["x"] = '{"total": 2'
    assert batch(*given, "--output", output, url=batch_server.url) == 0
    assert {row["error"] for row in rows(output)} == {"the answer is no JSON object"}
    assert {row["total"] for row in rows(output)} == {""}


def test_a_table_has_the_order_of_the_input_and_names_failures(batch_server, tmp_path):
    names = [str(number) for number in range(12)]
    batch_server.troubles = {"0": [(500, {})], "3": [(400, {})]}
    batch_server.answers["5"] = "broken \ud83d"
    lines = [line(name) for name in names]
    lines.append({**line("r"), "url": "/v1/responses", "body": {"input": "hello"}})
    source = write_lines(tmp_path / "in.jsonl", lines)
    output = tmp_path / "out.csv"
    assert batch(source, "--format=csv", "--output", output, url=batch_server.url) == 1
    assert [row["custom_id"] for row in rows(output)] == [*names, "r"]
    found = {row["custom_id"]: row for row in rows(output)}
    assert found["0"]["answer"] == "answer to 0"
    assert (found["3"]["status"], found["3"]["error"]) == ("400", "no: 3")
    assert found["3"]["answer"] == found["3"]["prompt_tokens"] == ""
    assert found["5"]["answer"] == "broken \\ud83d"
    assert found["r"]["answer"] == "answer to hello"
    assert (found["r"]["prompt_tokens"], found["r"]["completion_tokens"]) == ("5", "6")
    # Another form of what is finished costs nothing.
    written = output.read_bytes()
    output.unlink()
    sent = len(batch_server.texts)
    assert batch(source, "--format=csv", "--output", output, url=batch_server.url) == 1
    assert (output.read_bytes(), len(batch_server.texts)) == (written, sent)


def test_an_image_that_cannot_be_read_fails_alone(batch_server, tmp_path, folder):
    (folder / "c.jpg").symlink_to("/proc/self/mem")  # a file without a first byte
    output = tmp_path / "out.jsonl"
    given = ("--images", folder, "--prompt=x", "--output", output)
    assert batch(*given, url=batch_server.url) == 1
    records = {one["custom_id"]: one for one in read_lines(output)}
    assert len(records) == 3
    assert records["c.jpg"]["response"] is None
    assert records["c.jpg"]["error"]["code"] == "unreadable_file"
    assert records["b.jpg"]["response"]["status_code"] == 200


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_a_schema_that_is_none(batch_server, tmp_path, folder, capsys, content):
    schema = tmp_path / "schema.json"
    if content is not None:
        schema.write_text(content)
    given = ("--images", folder, "--prompt=x", "--schema", schema, "--output", tmp_path / "out")
    assert batch(*given, url=batch_server.url) == 2
    assert f"--schema: {schema}" in capsys.readouterr().err
    assert batch_server.texts == []


def test_parquet_without_its_library_is_refused_at_once(
    batch_server, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("saccade.server.commands.batch.tables.find_spec", lambda _: None)
    source = write_lines(tmp_path / "in.jsonl", [line("a")])
    output = tmp_path / "out.parquet"
    assert batch(source, "--format=parquet", "--output", output, url=batch_server.url) == 2
    error = capsys.readouterr().err
    assert "pip install 'saccade[batch]'" in error
    assert len(error.splitlines()) == 1
    assert batch_server.texts == []


@pytest.mark.parametrize(
    ("value", "kind", "cell"),
    [
        (1, "integer", 1),
        (2**63, "integer", None),
        (True, "integer", None),
        (1, "number", 1),
        ("1", "number", None),
        (False, "boolean", False),
        (0, "boolean", None),
        (None, "string", None),
        ({"a": [1]}, "string", '{"a": [1]}'),
    ],
)
def test_a_value_is_of_its_columns_type_or_left_out(value, kind, cell):
    assert _cell(value, kind) is cell or _cell(value, kind) == cell
    assert _kind({"type": [kind, "null"]}) == kind


def test_what_is_an_answer():
    assert read_answer({"choices": [{"text": "completed"}]}) == "completed"
    assert read_answer({"data": [{"embedding": [1, 2.5]}]}) == "[1, 2.5]"
    assert read_answer({"choices": [{"message": {"content": None}}]}) is None
    assert read_answer("text") is None
