"""The answers as a table, written from the journal when all requests are finished."""

import csv
import importlib
import json
from array import array
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from saccade.server.commands.batch.errors import BatchUsageError
from saccade.server.commands.batch.journal import Journal, has_failed, read_key
from saccade.server.commands.batch.requests import BatchInput

_COLUMNS = {
    "custom_id": "string",
    "status": "integer",
    "answer": "string",
    "prompt_tokens": "integer",
    "completion_tokens": "integer",
    "error": "string",
}
_TYPES: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
_ROWS = 10_000  # at a time, in Parquet
_WIDEST = 2**63


def check_format(name: str) -> None:
    """Raises BatchUsageError if a library is missing for it."""
    if name == "parquet" and find_spec("pyarrow") is None:
        raise BatchUsageError(
            "--format parquet needs pyarrow: pip install 'saccade[batch]', or pip install pyarrow"
        )


def write_table(
    path: Path, form: str, requests: BatchInput, journal: Journal, schema: dict[str, Any] | None
) -> None:
    """Writes CSV or Parquet, in the order of the input; the file is there whole or not at all.

    The properties of `schema` are columns; one that is called like another column gets `answer.`
    before its name.
    """
    fields = _fields(schema)
    columns = {**_COLUMNS, **{_column(name): kind for name, kind in fields.items()}}
    rows = (_row(record, fields) for record in _in_order(requests, journal))
    draft = path.with_name(f"{path.name}.draft")
    if form == "csv":
        # Lone surrogates, which JSON can hold, have no UTF-8.
        with draft.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(map(_as_text, rows))
    else:
        _write_parquet(draft, columns, rows)
    draft.replace(path)


def _as_text(row: dict[str, Any]) -> dict[str, Any]:
    """As JSON spells it: true, not True."""
    return {
        name: json.dumps(cell) if isinstance(cell, bool) else cell for name, cell in row.items()
    }


def _write_parquet(path: Path, columns: dict[str, str], rows: Iterator[dict[str, Any]]) -> None:
    arrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    types = {
        "string": arrow.string(),
        "integer": arrow.int64(),
        "number": arrow.float64(),
        "boolean": arrow.bool_(),
    }
    schema = arrow.schema([(name, types[kind]) for name, kind in columns.items()])
    with parquet.ParquetWriter(path, schema) as writer:
        while some := list(islice(rows, _ROWS)):
            writer.write_table(arrow.Table.from_pylist([*map(_encodable, some)], schema))


def _encodable(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: cell.encode(errors="backslashreplace").decode() if isinstance(cell, str) else cell
        for name, cell in row.items()
    }


def _in_order(requests: BatchInput, journal: Journal) -> Iterator[dict[str, Any]]:
    """The journal's lines in the order of the input. Holds 16 bytes a line and a dictionary."""
    positions = {request.key: position for position, request in enumerate(requests)}
    offsets = array("q", [-1]) * len(positions)
    for offset, record in journal.records():
        offsets[positions[read_key(record)]] = offset
    del positions
    with journal.path.open("rb") as file:
        for offset in offsets:
            if offset >= 0:
                file.seek(offset)
                yield json.loads(file.readline())


def _fields(schema: dict[str, Any] | None) -> dict[str, str]:
    """Property to the type of its column."""
    properties = (schema or {}).get("properties", {})
    kinds = {name: _kind(described) for name, described in properties.items()}
    return {name: kind if kind in _TYPES else "string" for name, kind in kinds.items()}


def _kind(described: Any) -> str:
    kind = described.get("type") if isinstance(described, dict) else None
    if isinstance(kind, list):  # ["integer", "null"]
        kind = next((one for one in kind if one != "null"), None) if len(kind) <= 2 else None
    return str(kind)


def _column(name: str) -> str:
    return f"answer.{name}" if name in _COLUMNS else name


def _row(record: dict[str, Any], fields: dict[str, str]) -> dict[str, Any]:
    response = record["response"] or {}
    body = response.get("body")
    row: dict[str, Any] = dict.fromkeys(_COLUMNS)
    row |= {"custom_id": record["custom_id"], "status": response.get("status_code")}
    if has_failed(record):
        problem = record["error"] or (body.get("error") if isinstance(body, dict) else body)
        message = problem.get("message") if isinstance(problem, dict) else problem
        row["error"] = message if isinstance(message, str) else json.dumps(problem)
        return row | dict.fromkeys(map(_column, fields))
    row["answer"] = read_answer(body)
    usage = body.get("usage") if isinstance(body, dict) else None
    if isinstance(usage, dict):
        row["prompt_tokens"] = usage.get("prompt_tokens", usage.get("input_tokens"))
        row["completion_tokens"] = usage.get("completion_tokens", usage.get("output_tokens"))
    if fields:
        try:
            values = json.loads(row["answer"] or "")
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            values, row["error"] = {}, "the answer is no JSON object"
        row |= {_column(name): _cell(values.get(name), kind) for name, kind in fields.items()}
    return row


def _cell(value: Any, kind: str) -> Any:
    """The value in the type of its column; None if it is of another."""
    if value is None or kind == "string":
        return value if value is None or isinstance(value, str) else json.dumps(value)
    if isinstance(value, bool) != (kind == "boolean") or not isinstance(value, _TYPES[kind]):
        return None
    if isinstance(value, int) and abs(value) >= _WIDEST:
        return None
    return value


def read_answer(body: Any) -> str | None:
    """What the model said: of a chat, a completion or a Response; else the first thing in `data`
    (an embedding) as JSON."""
    match body:
        case {"choices": [{"message": {"content": str(text)}}, *_]}:
            return text
        case {"choices": [{"text": str(text)}, *_]}:
            return text
        case {"output": [*items]}:
            return "".join(
                part.get("text", "")
                for item in items
                if item.get("type") == "message"
                for part in item.get("content", ())
            )
        case {"data": [{"embedding": embedding}, *_]}:
            return json.dumps(embedding)
    return None
