"""Hermes's tool calls, as Qwen2.5-VL makes them, whose JSON cannot run into white space."""

import json
from collections.abc import Mapping
from typing import Any

import xgrammar
from vllm.tool_parsers import ToolParserManager
from vllm.tool_parsers.hermes_tool_parser import Hermes2ProToolParser

from saccade.server.engine.errors import one_line


class BoundedHermesToolParser(Hermes2ProToolParser):
    """In its grammar one character of white space stands between two tokens of JSON, at most.

    The engine's ``disable_any_whitespace`` does not reach the grammars of calls, and xgrammar
    takes no bound of none. Without a bound a model may write new lines to the end of the context.
    """

    def get_structural_tag(self, *args: Any, **options: Any) -> Any:
        tag = super().get_structural_tag(*args, **options)
        for call in getattr(tag and tag.format, "tags", ()):
            if hasattr(call.content, "max_whitespace_cnt"):
                call.content.max_whitespace_cnt = 1
        return tag


def uncompiled_tool(body: Mapping[str, Any]) -> tuple[str, str] | None:
    """The path and the fault of the first tool in a request of whose schema comes no grammar."""
    for number, tool in enumerate(body.get("tools") or ()):
        nested = "function" in tool
        parameters = (tool["function"] if nested else tool).get("parameters") or {}
        try:
            xgrammar.Grammar.from_json_schema(json.dumps(parameters))
        except Exception as fault:  # of whatever kind its compiled part raises
            path = f"tools[{number}]{'.function' if nested else ''}.parameters"
            return path, one_line(str(fault))
    return None


def use_bounded_tool_calls() -> None:
    """Makes it vLLM's parser of the name ``hermes`` in this process."""
    ToolParserManager.register_module("hermes", module=BoundedHermesToolParser)
