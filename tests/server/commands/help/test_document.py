"""docs/commands.md is what the parsers say.

To write it anew:

    WRITE_COMMANDS=1 .venv/bin/pytest -n 0 tests/server/commands/help/test_document.py
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from every_parser import every_parser, own_groups

from saccade.server.core.command_line import COMMANDS

DOCUMENT = Path(__file__).parents[4] / "docs" / "commands.md"
HEAD = """# Commands

Written from the parsers: what `saccade COMMAND --help` says, of every command.
`saccade completion SHELL` prints what lets a shell complete all of it.
"""
SERVE = """Every flag of vLLM's engine is one of this command too, `saccade serve --help=all` lists
them. Those below are Saccade's; each can also be given as `SACCADE_NAME` in the environment.
"""


def document() -> str:
    """All of it, as Markdown."""
    rows = [
        f"| [`saccade {name}`](#saccade-{name}) | {told} |" for name, (_, told) in COMMANDS.items()
    ]
    lines = [HEAD, "| command | what for |", "|---|---|", *rows]
    for prog, parser in every_parser().items():
        lines += [f"\n{'#' * len(prog.split())} {prog}\n", *section(parser)]
    return "\n".join(lines) + "\n"


def section(parser: argparse.ArgumentParser) -> Iterator[str]:
    """What it is for, its arguments by groups, and its examples."""
    yield f"{parser.description}\n"
    if parser.prog == "saccade serve":
        yield SERVE
    for title, actions in own_groups(parser):
        yield f"| {'flag' if title in ('options', 'Saccade') else title} | |"
        yield "|---|---|"
        for action in actions:
            told = (action.help or "") % {**vars(action), "prog": parser.prog}
            yield f"| `{spelling(action)}` | {' '.join(told.split())} |".replace("|URL", "\\|URL")
        yield ""
    yield f"```\n{parser.epilog.strip()}\n```"


def spelling(action: argparse.Action) -> str:
    """As it is typed: ``--json``, ``--fps X``, ``FILE...``."""
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else None
    value = str(
        action.metavar
        or choices
        or (action.dest if not action.option_strings else action.dest.upper())
    )
    more = "..." if action.nargs in ("+", "*") else ""
    if not action.option_strings:
        return value + more
    names = ", ".join(action.option_strings)
    return names if action.nargs == 0 else f"{names} {value}{more}"


def test_it_is_current():
    if os.environ.get("WRITE_COMMANDS"):
        DOCUMENT.write_text(document(), encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == document()


def test_it_names_every_command():
    assert {prog.split()[1] for prog in every_parser()} == {*COMMANDS}
