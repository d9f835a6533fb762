"""Parts of JSON Schema that the engine's grammars let pass, so that a caller is not misled. Pure.

vLLM refuses most of what its backends cannot enforce; of the rest (seen with xgrammar 0.2.8, see
``findings/vllm-json-schema-not-enforced.sh``) the answer warns.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

WITH_SCHEMAS = ("response_format", "structured_outputs", "text", "tools")
"""Fields that may hold schemas."""

_IGNORED = ("not", "if", "dependentRequired", "dependentSchemas")
# Where one of these stands, nothing else of the same schema counts.
_ALONE = ("$ref", "anyOf", "oneOf")
# What constrains nothing.
_REMARKS = frozenset(
    {"$defs", "definitions", "$schema", "$id", "$comment", "title", "description", "default"}
    | {"examples", "deprecated", "readOnly", "writeOnly", "nullable", "discriminator"}
)
# Keywords that hold schemas: one; a list of them; by name.
_SCHEMA = ("items", "additionalProperties", "propertyNames")
_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")


def schema_warnings(body: Mapping[str, Any]) -> list[str]:
    """One for each of a request's schemas that asks for what no grammar enforces."""
    return [
        f"{path}: answers are not held to what it says by {', '.join(parts)}"
        for path, schema in _schemas(body)
        if (parts := sorted(set(_unenforced(schema))))
    ]


def _schemas(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for path in (
        "response_format.json_schema.schema",
        "structured_outputs.json",
        "text.format.schema",
    ):
        value: Any = body
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:  # vLLM says so
                continue
        yield path, value
    for number, tool in enumerate(body.get("tools", ())):
        function = tool.get("function", tool)
        where = "function.parameters" if "function" in tool else "parameters"
        yield f"tools[{number}].{where}", function.get("parameters")


def _unenforced(schema: Any) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    yield from (name for name in _IGNORED if name in schema)
    for name in _ALONE:
        if name in schema and (beside := schema.keys() - _REMARKS - {name}):
            yield f"{min(beside)} beside {name}"
    properties, required = schema.get("properties"), schema.get("required")
    if isinstance(properties, dict) and isinstance(required, list):
        yield from (
            f"required: {name!r}"
            for name in required
            if isinstance(name, str) and name not in properties
        )
    inner = [schema.get(name) for name in _SCHEMA]
    inner += [
        one for name in _SCHEMAS if isinstance(many := schema.get(name), list) for one in many
    ]
    for name in _NAMED:
        if isinstance(named := schema.get(name), dict):
            inner += named.values()
    for one in inner:
        yield from _unenforced(one)
