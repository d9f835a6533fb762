"""The commands of `saccade`, their parsers, and how they say that they were used wrongly."""

import argparse
import importlib
from types import ModuleType
from typing import NoReturn

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
        "saccade.server.commands.doctor.command",
        "tell what this installation will do, and what is wrong",
    ),
    "init": ("saccade.server.commands.init.command", "write a service file from three answers"),
    "bench": ("saccade.benchmarks.cli", "load one or two servers and measure them"),
    "completion": (
        "saccade.server.commands.completion",
        "print what lets a shell complete commands and flags",
    ),
}


class OneLineErrors(argparse.ArgumentParser):
    """Says what is wrong with a flag in one line; vLLM's usage alone would take four hundred."""

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.split())
        self.exit(2, f"{self.prog}: error: {line} (see {self.prog} --help)\n")


def command_parser(name: str) -> tuple[ModuleType, argparse.ArgumentParser]:
    """The module of a command, imported now, and the parser of its flags."""
    module = importlib.import_module(COMMANDS[name][0])
    if hasattr(module, "make_parser"):
        parser: argparse.ArgumentParser = module.make_parser()
    else:
        parser = OneLineErrors(
            prog=f"saccade {name}", formatter_class=argparse.RawDescriptionHelpFormatter
        )
    module.add_arguments(parser)
    return module, parser
