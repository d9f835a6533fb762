"""Muon: momentum whose matrices are made orthogonal before each step (Jordan et al., 2024).

In one short run on this model, which changed other things too, places, boxes and events came sooner
than with AdamW and text did not: promising, not proven.
`torch.optim.Muon` always iterates in bfloat16, which a CPU without bfloat16 units emulates slowly,
and does not know of matrices stacked in one parameter.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from saccade.demo.training.model.language import HAS_BFLOAT16

# Coefficients of the quintic iteration, from the same source: singular values end near one.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5
# Enough for a direction; much faster where the processor has units for it.
_PRECISION = torch.bfloat16 if HAS_BFLOAT16 else torch.float32


def orthogonal(matrices: Tensor) -> Tensor:
    """About U V^T of each of the matrices U S V^T. ``[matrices, rows, columns]``"""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(_PRECISION)
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=_B, alpha=_C), x, beta=_A)
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Muon for matrices.

    Args:
        parameters: matrices. A group's ``parts`` says how many matrices are stacked in each of its
            parameters, e.g. 3 for queries, keys and values in one.
    """

    def __init__(
        self,
        parameters: Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.02,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "parts": 1}
        super().__init__(parameters, defaults)

    # PyTorch's optimisers also call a closure for the loss and return it; this one does not.
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step, with Nesterov's momentum."""
        assert closure is None, "not supported"
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(state["momentum"], group["momentum"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parts = (parameter.chunk(group["parts"]), ahead.chunk(group["parts"]))
                for part, direction in zip(*parts, strict=True):
                    by_shape[part.shape].append((part, direction))
            for (rows, columns), pairs in by_shape.items():
                # A matrix with more rows than columns would change its outputs less.
                scale = max(1.0, rows / columns) ** 0.5
                updates = orthogonal(torch.stack([direction for _, direction in pairs]))
                for (part, _), update in zip(pairs, updates, strict=True):
                    part.add_(update, alpha=-group["lr"] * scale)
