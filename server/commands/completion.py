"""`saccade completion`: a shell's completion script, written from the parsers of all commands.

A script is made once, by shtab: to ask the parsers at every key would import vLLM each time.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import shtab

from saccade.server.core.command_line import COMMANDS, command_parser

_SHELLS = ("bash", "zsh", "fish", "tcsh")

_EPILOG = """examples:
  saccade completion bash > ~/.local/share/bash-completion/completions/saccade
  saccade completion zsh > ~/.zfunc/_saccade          a folder of $fpath
  saccade completion fish > ~/.config/fish/completions/saccade.fish

Make it anew after an update: it holds the flags of this installation, vLLM's too.

exit codes: 0 done, 1 vLLM is not installed, 2 wrong use
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's arguments."""
    parser.description = (
        "Prints a script with which a shell completes saccade's commands and flags."
    )
    parser.epilog = _EPILOG
    parser.add_argument("shell", choices=_SHELLS, help="whose script: %(choices)s")


def run(args: argparse.Namespace) -> int:
    """Prints the script. Returns the exit code."""
    print(shtab.complete(_tree(), args.shell))
    return 0


def _tree() -> argparse.ArgumentParser:
    """One parser of all commands, for which shells complete."""
    root = argparse.ArgumentParser(prog="saccade")
    root.add_argument("--version", action="version", version="")
    commands = root.add_subparsers()
    for name, (_, text) in COMMANDS.items():
        _, parser = command_parser(name)
        for action in _actions(parser):
            if action.type is Path or "FILE" in str(action.metavar):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
        commands.add_parser(name, help=text, parents=[parser], add_help=False)
    return root


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Of the parser and of its own commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from _actions(child)
        else:
            yield action
