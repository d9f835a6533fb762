"""Hermes's tool calls, as Qwen2.5-VL makes them, whose JSON cannot run into white space."""

from typing import Any

from vllm.tool_parsers import ToolParserManager
from vllm.tool_parsers.hermes_tool_parser import Hermes2ProToolParser


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


def use_bounded_tool_calls() -> None:
    """Makes it vLLM's parser of the name ``hermes`` in this process."""
    ToolParserManager.register_module("hermes", module=BoundedHermesToolParser)
