"""`saccade init`: asks three questions and writes a service, for systemd or Docker Compose."""

import argparse
import os
import secrets
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from saccade.server.commands.child import saccade_command
from saccade.server.commands.init.compose import compose
from saccade.server.commands.init.plan import Exposure, Plan, parse_gpus, parse_model
from saccade.server.commands.init.systemd import service

_MODEL = "Qwen/Qwen2.5-VL-7B-Instruct"
_OUTPUTS = {"systemd": "saccade.service", "compose": "compose.yaml"}
_KEY_FILE = "saccade.env"

_EPILOG = """examples:
  saccade init
  saccade init --model Qwen/Qwen2.5-VL-7B-Instruct --gpus 1 --expose network
  saccade init --model demo --gpus 0 --expose local --output vision.service
  saccade init --kind compose --model Qwen/Qwen2.5-VL-72B-Instruct --gpus 4 --expose internet

What no flag says is asked, on a terminal. The file is commented, and begins with what to do with
it. With network and internet an API key is made: it is written to saccade.env beside the file,
which its owner alone may read; one that is there is kept.

exit codes: 0 written, 1 could not be written, 2 wrong use, 130 interrupted
"""

_Answer = TypeVar("_Answer")


class InitError(Exception):
    """One line: why nothing was written."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's flags."""
    parser.description = (
        "Writes a commented service file, for systemd or Docker Compose, from three answers: "
        "which model, how many GPUs, who reaches it."
    )
    parser.epilog = _EPILOG
    parser.add_argument(
        "--model", type=_typed(parse_model), help="a Hugging Face id, a local folder, or demo"
    )
    parser.add_argument("--gpus", type=_typed(parse_gpus), metavar="N", help="how many; 0: the CPU")
    parser.add_argument(
        "--expose",
        choices=[*Exposure],
        type=_typed(Exposure),
        metavar="{local,network,internet}",
        help="to this machine, to its network, or, through a TLS proxy, to the world",
    )
    parser.add_argument(
        "--kind", choices=[*_OUTPUTS], default="systemd", help="of file (default: systemd)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="default: saccade.service or compose.yaml in this folder",
    )
    parser.add_argument("--force", action="store_true", help="overwrite the file")


def run(args: argparse.Namespace) -> int:
    """Asks, writes, and says what it wrote. Returns the exit code."""
    output: Path = args.output or Path(_OUTPUTS[args.kind])
    key_file = output.with_name(_KEY_FILE)
    try:
        if output.exists() and not args.force:
            raise InitError(f"{output} exists: --force overwrites it, --output names another")
        gpus = _gpus() if args.gpus is None and sys.stdin.isatty() else "0"
        plan = Plan(
            _answer(args.model, "--model", f"Which model? [{_MODEL}]", _MODEL, parse_model),
            _answer(args.gpus, "--gpus", f"How many GPUs? [{gpus}]", gpus, parse_gpus),
            _answer(args.expose, "--expose", _EXPOSE, Exposure.LOCAL.value, Exposure),
        )
        if args.kind == "systemd":
            text = service(plan, saccade_command(), version("saccade"), str(output), str(key_file))
        else:
            text = compose(plan, version("saccade"), str(output), str(key_file))
        if plan.needs_key:
            _write_key(key_file)
        with output.open("w" if args.force else "x", encoding="utf-8") as file:
            file.write(text)
    except (InitError, ValueError) as error:
        return _fail(str(error), 2)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}", 1)
    print(f"written: {output}: {plan.summary}; its first lines say what to do with it")
    return 0


_EXPOSE = "Who reaches it? local: programs on this machine; network; internet [local]"


def _gpus() -> str:
    import torch

    return str(torch.cuda.device_count())


def _answer(
    given: _Answer | None, flag: str, question: str, default: str, parse: Callable[[str], _Answer]
) -> _Answer:
    """What the flag says, or a person; asks until the answer can be used."""
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise InitError(f"{flag} is missing, and there is no terminal to ask on")
    while True:
        print(f"{question} ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            raise InitError(f"{flag}: no answer")
        try:
            return parse(line.strip() or default)
        except ValueError as error:
            print(f"  {error}")


def _write_key(file: Path) -> None:
    """A new key, in a file that its owner alone may read; one that is there is kept."""
    try:
        # No other file is followed to, and nobody can open it before it is private.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if "SACCADE_API_KEY=" not in file.read_text(encoding="utf-8"):
            raise InitError(f"{file} exists and has no line SACCADE_API_KEY=...") from None
        if file.stat().st_mode & 0o077:
            raise InitError(f"others may read the key: chmod 600 {file}") from None
        print(f"kept: {file}, with its API key")
        return
    with open(descriptor, "w", encoding="utf-8") as opened:
        opened.write(
            "# Keys of Saccade's API, separated by commas. HF_TOKEN=... for gated checkpoints.\n"
            f"SACCADE_API_KEY={secrets.token_urlsafe(32)}\n"
        )
    print(f"written: {file}: a new API key, which only you may read")


def _typed(parse: Callable[[str], _Answer]) -> Callable[[str], _Answer]:
    """As a type of a flag: argparse shows why a value is wrong only in an error of its own."""

    def typed(text: str) -> _Answer:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return typed


def _fail(message: str, code: int) -> int:
    print(f"saccade init: error: {message}", file=sys.stderr)
    return code
