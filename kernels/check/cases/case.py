"""What a case is: one operation on one set of arguments, and what else makes the same result."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from ..verdict import Verdict


@dataclass(frozen=True)
class Place:
    """Where, and in which format."""

    device: torch.device
    dtype: torch.dtype

    def normal(self, *shape: int, seed: int = 0) -> torch.Tensor:
        """Random numbers of the format, equal on every device."""
        generator = torch.Generator().manual_seed(seed + len(shape) + sum(shape))
        return torch.randn(shape, generator=generator).to(self.device, self.dtype)


@dataclass(frozen=True)
class Contender:
    """One way to make a case's result.

    Attributes:
        name: In the table.
        make: Prepares arguments and returns the call that is timed. May raise whatever a library
            raises that cannot do it: the reason is told, and nothing else happens.
        result: What a call made, to be compared with the case's truth; None: what it returned.
        bytes: What this way moves at least, by `traffic`; None where there is no formula.
    """

    name: str
    make: Callable[[], Callable[[], object]]
    result: Callable[[object], torch.Tensor] | None = None
    bytes: int | None = None


class Case(Protocol):
    """An operation on one set of arguments.

    Attributes:
        operation: Its name.
        size: Its arguments in words.
    """

    operation: str
    size: str

    def check(self) -> Verdict:
        """Make arguments, run the kernel, and compare."""


class TimedCase(Case, Protocol):
    """One whose time says something. After `check`:

    Attributes:
        bytes: What the operation moves at least, by `traffic`.
        flops: Its floating point operations, where they decide how long it takes; else 0.
        exact: What contenders should make, float64.
    """

    bytes: int
    flops: int
    exact: torch.Tensor

    def ours(self) -> Contender:
        """The registered operation."""

    def others(self) -> list[Contender]:
        """Other ways to the same result, those that say most first."""
