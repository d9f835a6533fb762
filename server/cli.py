"""The `saccade` command. Imports nothing heavy before it knows which command is meant."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import version

from saccade.server.core.command_line import OneLineErrors

# command -> (module, one line of help). A module has add_arguments(parser), run(args) -> exit
# code, and, if it needs a parser of its own kind, make_parser().
COMMANDS = {
    "serve": ("saccade.server.commands.serve", "serve a Qwen2.5-VL model over HTTP"),
    "chat": (
        "saccade.server.commands.chat.command",
        "ask a server about images and videos from the terminal",
    ),
    "demo": ("saccade.demo.run", "see the server answer about an image and a video, no download"),
    "batch": (
        "saccade.server.commands.batch.command",
        "send a file of requests, or a question about each image of a folder",
    ),
    "plan": ("saccade.server.commands.plan", "tell what images and videos will cost"),
    "doctor": (
        "saccade.server.commands.doctor",
        "tell what this installation will do, and what is wrong",
    ),
    "bench": ("saccade.benchmarks.cli", "load one or two servers and measure them"),
}

_EPILOG = """examples:
  saccade demo
  saccade serve Qwen/Qwen2.5-VL-7B-Instruct --port 8000
  saccade chat --image photo.jpg "What is this?"
  saccade COMMAND --help

exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = _command(arguments)
    module = importlib.import_module(COMMANDS[name][0])
    if hasattr(module, "make_parser"):
        parser: argparse.ArgumentParser = module.make_parser()
    else:
        parser = OneLineErrors(
            prog=f"saccade {name}", formatter_class=argparse.RawDescriptionHelpFormatter
        )
    module.add_arguments(parser)
    try:
        return int(module.run(parser.parse_args(arguments[1:])))
    except KeyboardInterrupt:
        return 130


def _command(arguments: Sequence[str]) -> str:
    """The command named first; --help, --version and mistakes end the process here."""
    listed = "\n".join(f"  {name:<8}{text}" for name, (_, text) in COMMANDS.items())
    parser = OneLineErrors(
        prog="saccade",
        usage="saccade [--help] [--version] COMMAND ...",
        description=f"Serves Qwen2.5-VL at high throughput.\n\ncommands:\n{listed}",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"saccade {version('saccade')}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    name: str = parser.parse_args(arguments[:1]).command
    return name


if __name__ == "__main__":
    sys.exit(main())
