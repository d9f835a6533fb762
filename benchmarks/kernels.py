"""`saccade bench kernels`: the GPU kit, `python -m saccade.kernels.check`, by another name."""

import argparse

from saccade.kernels.check.arguments import add_arguments

__all__ = ["add_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    """Run the benchmark; returns the exit code."""
    from saccade.kernels.check import command

    return command.run(args)
