"""Types of the benchmarks' flags."""

import argparse
import re
from typing import Any


def sizes(text: str) -> tuple[tuple[int, int], ...]:
    """``448x448,1024x768`` as (width, height) pairs."""
    if not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}(,[1-9]\d{0,4}x[1-9]\d{0,4})*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not like 448x448 or 448x448,1024x768")
    sides = [tuple(int(side) for side in size.split("x")) for size in text.split(",")]
    return tuple((width, height) for width, height in sides)


def natural(text: str) -> int:
    """A whole number from 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


def positive(number: type[int] | type[float]) -> Any:
    """The type of numbers above 0."""

    def parse(text: str) -> float:
        value = number(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    parse.__name__ = number.__name__  # argparse names it in "invalid int value"
    return parse


def default_dtype() -> str:
    """What ``auto`` is for a checkpoint in bfloat16, where memory is no matter."""
    import torch

    from saccade.kernels.cpu.processor import processor

    in_software = not torch.cuda.is_available() and not processor().bfloat16_matmul
    return "float32" if in_software else "bfloat16"
