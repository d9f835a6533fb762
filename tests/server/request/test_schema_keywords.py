"""What a JSON schema asks for and the grammar made of it does not is told."""

import json

import pytest
import xgrammar
from xgrammar.testing import _is_grammar_accept_string

from saccade.server.core.settings import RequestLimits
from saccade.server.request.field_checks import EngineOptions
from saccade.server.request.parsed_request import CHAT, COMPLETION, RESPONSE, parse_request

TWO = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "additionalProperties": False,
}
# What is told, a schema, and a value that it forbids.
LEFT_OUT = [
    ("not", {"type": "integer", "not": {"const": 5}}, "5"),
    ("if", {**TWO, "if": {"required": ["a"]}, "then": {"required": ["b"]}}, '{"a":1}'),
    ("dependentRequired", {**TWO, "dependentRequired": {"a": ["b"]}}, '{"a":1}'),
    ("dependentSchemas", {**TWO, "dependentSchemas": {"a": {"required": ["b"]}}}, '{"a":1}'),
    ("additionalProperties beside anyOf", {**TWO, "anyOf": [{"required": ["b"]}]}, '{"a":1}'),
    (
        "minimum beside $ref",
        {"$defs": {"n": {"type": "integer"}}, "$ref": "#/$defs/n", "minimum": 5},
        "3",
    ),
    ("required: 'z'", {**TWO, "required": ["z"]}, '{"a":1}'),
    ("not", {"type": "array", "items": {"type": "integer", "not": {"const": 5}}}, "[5]"),
]
ENFORCED = [
    {**TWO, "required": ["a"]},
    {"type": "string", "enum": ["a", "b"], "description": "not, if"},
    {"anyOf": [{"type": "integer", "minimum": 5}, {"type": "null"}], "title": "N", "default": None},
    {
        "$defs": {"Box": TWO},
        "type": "object",
        "properties": {"not": {"$ref": "#/$defs/Box", "description": "a box"}},
        "required": ["not"],
    },
]


def warnings(body, form=CHAT):
    prompt = {"messages": [{"role": "user", "content": "Hi"}]} if form is CHAT else {}
    return parse_request({**prompt, **body}, form, RequestLimits(), EngineOptions()).warnings


@pytest.mark.parametrize(("part", "schema", "forbidden"), LEFT_OUT)
def test_what_no_grammar_enforces_is_told(part, schema, forbidden):
    grammar = xgrammar.Grammar.from_json_schema(
        json.dumps(schema), any_whitespace=False, separators=(",", ":")
    )
    assert _is_grammar_accept_string(grammar, forbidden)
    function = {"name": "f", "parameters": schema}
    told = f"answers are not held to what it says by {part}"
    for path, body, form in (
        (
            "response_format.json_schema.schema",
            {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}},
            CHAT,
        ),
        ("structured_outputs.json", {"structured_outputs": {"json": schema}}, COMPLETION),
        ("structured_outputs.json", {"guided_json": json.dumps(schema)}, CHAT),
        (
            "tools[0].function.parameters",
            {"tools": [{"type": "function", "function": function}]},
            CHAT,
        ),
        ("text.format.schema", {"text": {"format": {"schema": schema}}, "input": "Hi"}, RESPONSE),
        (
            "tools[0].parameters",
            {"tools": [{"type": "function", **function}], "input": "Hi"},
            RESPONSE,
        ),
    ):
        assert warnings(body, form) == (f"{path}: {told}",)


@pytest.mark.parametrize("schema", ENFORCED)
def test_other_schemas_are_not_spoken_of(schema):
    assert warnings({"structured_outputs": {"json": schema}}) == ()
    assert warnings({"structured_outputs": {"json": "not JSON"}}) == ()
    assert warnings({"response_format": "text"}) == warnings({"text": 5}, RESPONSE) == ()
