"""The table of fields: docs/api.md shows it, it is of one mind, and it knows all that vLLM takes.

To write it into the documentation anew:

    WRITE_FIELDS=1 .venv/bin/pytest -n 0 tests/server/request/test_fields.py
"""

import os
from collections import Counter
from pathlib import Path

import pytest
from vllm.entrypoints.anthropic.protocol import (
    AnthropicCountTokensRequest,
    AnthropicMessagesRequest,
)
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.serve.tokenize.protocol import (
    DetokenizeRequest,
    TokenizeChatRequest,
    TokenizeCompletionRequest,
)

from saccade.server.request.fields import BY_ROUTE, ROUTES, TABLE, Treatment

DOCUMENT = Path(__file__).parents[3] / "docs" / "api.md"
BEGIN, END = "<!-- fields -->\n", "<!-- end of fields -->\n"
VLLM = {
    "c": (ChatCompletionRequest,),
    "r": (ResponsesRequest,),
    "t": (CompletionRequest,),
    "k": (TokenizeChatRequest, TokenizeCompletionRequest),
    "d": (DetokenizeRequest,),
    "m": (AnthropicMessagesRequest, AnthropicCountTokensRequest),
}
TITLES = {
    Treatment.HONOURED: "Honoured",
    Treatment.HINT: "Hints: taken, and without effect",
    Treatment.REFUSED: "Refused, with a 400 that names the field, where it asks for something",
}


def table() -> str:
    """The table as Markdown."""
    columns = ["chat, plan", "responses", "completions", "tokenize", "detokenize", "messages"]
    lines = []
    for treatment, title in TITLES.items():
        lines += [f"\n{title}:\n", "| fields | " + " | ".join(columns) + " | note |"]
        lines.append("| --- " * (len(columns) + 2) + "|")
        for row in TABLE:
            if row.treatment is treatment:
                names = ", ".join(f"`{name}`" for name in row.names.split())
                marks = " | ".join("x" if route in row.routes else "" for route in ROUTES)
                lines.append(f"| {names} | {marks} | {row.note} |")
    return "\n".join(lines).lstrip("\n") + "\n\n"


def test_the_documentation_shows_the_table():
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    shown, end, after = rest.partition(END)
    assert end, "docs/api.md has lost the place of the table"
    if os.environ.get("WRITE_FIELDS"):
        DOCUMENT.write_text(before + BEGIN + table() + END + after, encoding="utf-8")
    else:
        assert shown == table()


@pytest.mark.parametrize("route", ROUTES)
def test_it_knows_every_field_of_vllms(route):
    theirs = {name for model in VLLM[route] for name in model.model_fields}
    assert theirs <= BY_ROUTE[route].keys()


def test_a_field_stands_once_for_a_route():
    count = Counter(
        (name, route) for row in TABLE for route in row.routes for name in row.names.split()
    )
    assert [place for place, times in count.items() if times > 1] == []


def test_what_is_refused_says_why():
    assert all(row.note for row in TABLE if row.treatment is Treatment.REFUSED)
