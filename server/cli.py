"""The `saccade` command. Imports nothing heavy before it knows which command is meant."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from saccade.server.core.command_line import COMMANDS, OneLineErrors, command_parser

_EPILOG = """examples:
  saccade demo
  saccade serve Qwen/Qwen2.5-VL-7B-Instruct --port 8000
  saccade chat --image photo.jpg "What is this?"
  saccade plan photo.jpg video.mp4
  saccade COMMAND --help

exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = _command(arguments)
    try:
        module, parser = command_parser(name)
        return int(module.run(parser.parse_args(arguments[1:])))
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise
        print(
            f"saccade {name}: error: vLLM is not installed: install Saccade with the extra cuda "
            "or cpu (docs/installing.md)",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        return 130


def _command(arguments: Sequence[str]) -> str:
    """The command named first; --help, --version and mistakes end the process here."""
    listed = "\n".join(f"  {name:<12}{text}" for name, (_, text) in COMMANDS.items())
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
