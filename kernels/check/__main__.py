"""``python -m saccade.kernels.check``."""

import argparse
import sys

from .arguments import add_arguments
from .command import run


def main() -> int:
    """Parse the command line and run the kit; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m saccade.kernels.check",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
