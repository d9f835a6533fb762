"""The parser of every command, as the command itself makes it."""

import argparse
from collections.abc import Iterator
from functools import cache

from saccade.server.core.command_line import COMMANDS, command_parser


@cache
def every_parser() -> dict[str, argparse.ArgumentParser]:
    """By the words that name it: ``saccade plan``, ``saccade bench``, ``saccade bench serve``."""
    return {
        parser.prog: parser
        for name in COMMANDS
        for parser in _with_children(command_parser(name)[1])
    }


def _with_children(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from _with_children(child)


def own_groups(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[argparse.Action]]]:
    """(title, arguments) of its groups, without help; of ``serve`` what vLLM does not have."""
    for group in parser._action_groups:
        actions = [
            action
            for action in group._group_actions
            if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
        ]
        ours = parser.prog != "saccade serve" or group.title == "Saccade"
        if actions and ours:
            yield str(group.title), actions
