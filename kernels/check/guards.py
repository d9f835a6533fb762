"""Memory that shows what a kernel should not have touched: rows before and after every tensor, and
results that are NaN until they are written.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# Rows before and after a tensor: more than a program's tile, and a multiple of 16 bytes whatever
# a row has, so that tensors are aligned as allocations are.
_ROWS = 160
UNTOUCHED = 768.0  # around results: exact in every format


@dataclass(frozen=True)
class Guarded:
    """A tensor within memory that nobody should read or write.

    Attributes:
        inside: The tensor.
        memory: With the rows around it.
    """

    inside: torch.Tensor
    memory: torch.Tensor

    @staticmethod
    def filled(inside: float, around: float, like: torch.Tensor) -> "Guarded":
        """In the shape, format and place of ``like``."""
        shape = (len(like) + 2 * _ROWS, *like.shape[1:])
        memory = torch.full(shape, around, dtype=like.dtype, device=like.device)
        memory[_ROWS:-_ROWS] = inside
        return Guarded(memory[_ROWS:-_ROWS], memory)

    @staticmethod
    def around(tensor: torch.Tensor, value: float = torch.nan) -> "Guarded":
        """The numbers of ``tensor`` with ``value`` around them: NaN, if read, spoils results."""
        guarded = Guarded.filled(0, value, tensor)
        guarded.inside.copy_(tensor)
        return guarded

    def holds(self, value: float) -> bool:
        """Do all numbers around the tensor still have this value?"""
        return all(bool((rows == value).all()) for rows in self._rows())

    @property
    def is_nan(self) -> bool:
        """Are all numbers around the tensor still NaN?"""
        return all(bool(rows.isnan().all()) for rows in self._rows())

    def _rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.memory[:_ROWS], self.memory[-_ROWS:]


class Results(TorchFunctionMode):
    """While this is entered, matrices of numbers that Python code allocates without filling them
    are NaN, within rows of `UNTOUCHED`. Launchers allocate their results so.

    Attributes:
        allocated: All of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.allocated: list[Guarded] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func not in (torch.empty, torch.empty_like, torch.Tensor.new_empty):
            return result
        if result.ndim != 2 or not result.is_floating_point():
            return result
        self.allocated.append(Guarded.filled(torch.nan, UNTOUCHED, result))
        return self.allocated[-1].inside

    def of(self, result: torch.Tensor) -> Guarded | None:
        """What stands around this result, if it was allocated here."""
        for guarded in self.allocated:
            if guarded.inside.data_ptr() == result.data_ptr():
                return guarded
        return None


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal, NaN included."""
    return torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))
