"""When the figures of `saccade bench kernels` count: what every operation makes is right.

Truths are float64, written out from definitions and independent of the kernels. Attention may err
1.25 times as much as vLLM's own in the same format. What works on single numbers must be exact, or
rounded once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from saccade.benchmarks.tower_gate import relative_error

WORSE = 1.25  # than vLLM's error, root mean square
_WORST = 2.0  # than vLLM's largest error; a single wrong number does not show in a mean
_RIGHT = 0.05  # relative error above which a result in 16 bits is another result
_FEW_ROUNDINGS = 2.0**-20  # of float32, relative


@dataclass
class Verdict:
    """On one case.

    Attributes:
        errors: Relative, root mean square, of each side.
        problems: One line each; none if all is right.
    """

    errors: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def hold_stock(self, found: torch.Tensor, truth: torch.Tensor) -> None:
        """What we are compared with must do the same."""
        self._hold("stock", found, truth)

    def hold_beside(self, ours: torch.Tensor, stock: torch.Tensor, truth: torch.Tensor) -> None:
        """Our error may be a little above that of vLLM, which must be near the truth."""
        self._hold("stock", stock, truth)
        self._hold("ours", ours, truth)
        kinds = (
            ("error", WORSE, self.errors["ours"], self.errors["stock"]),
            ("largest error", _WORST, _largest_error(ours, truth), _largest_error(stock, truth)),
        )
        for kind, factor, our_error, stock_error in kinds:
            if not our_error <= factor * stock_error:  # so that NaN is a problem
                self.problems.append(
                    f"our {kind} is {our_error:.2g}, above {factor:g} times vLLM's"
                    f" of {stock_error:.2g}"
                )

    def hold_exact(self, found: torch.Tensor, truth: torch.Tensor) -> None:
        """Ours equals the truth rounded to float32 and then to its own format, bit for bit."""
        self.errors["ours"] = relative_error(found, truth)
        expected = truth.float().to(found.dtype)
        different = int((found != expected).sum())
        if different:
            self.problems.append(f"{different} of {found.numel()} numbers are not exact")

    def hold_one_rounding(self, found: torch.Tensor, truth: torch.Tensor) -> None:
        """Ours is the truth after a few roundings of float32 and one to its own format."""
        self.errors["ours"] = relative_error(found, truth)
        limits = torch.finfo(found.dtype)
        step = limits.eps / 2
        bound = truth.abs() * (step + _FEW_ROUNDINGS) + limits.smallest_normal * step
        wrong = int((~((found.double() - truth).abs() <= bound)).sum())
        if wrong:
            self.problems.append(f"{wrong} of {found.numel()} numbers are not rounded once")

    def _hold(self, way: str, found: torch.Tensor, truth: torch.Tensor) -> None:
        self.errors[way] = error = relative_error(found, truth)
        if not error <= _RIGHT:
            self.problems.append(f"the error of {way} is {error:.2g}, above {_RIGHT:g}")


def _largest_error(found: torch.Tensor, truth: torch.Tensor) -> float:
    return float((found.double() - truth).abs().max())


def exact_mrope(
    x: torch.Tensor, positions: torch.Tensor, cache: torch.Tensor, sections: Sequence[int]
) -> torch.Tensor:
    """Multimodal rotary embedding in float64, sections in blocks.

    Args:
        x: ``[tokens, heads * head_dim]``.
        positions: ``[3, tokens]``: time, row, column.
        cache: ``[positions, head_dim]``: cosines, then sines.
        sections: How many pairs of a head turn with time, row, column.
    """
    axes = torch.repeat_interleave(
        torch.arange(3, device=x.device), torch.tensor(sections, device=x.device)
    )
    places = positions[axes].T  # [tokens, pairs]
    pairs = torch.arange(len(axes), device=x.device)
    cos = cache[places, pairs].double()[:, None]
    sin = cache[places, pairs + len(axes)].double()[:, None]
    first, second = x.double().view(len(x), -1, 2, len(axes)).unbind(2)
    turned = torch.stack((first * cos - second * sin, second * cos + first * sin), dim=2)
    return turned.flatten(1)


def exact_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """RMSNorm in float64."""
    wide = x.double()
    return wide / (wide.square().mean(-1, keepdim=True) + eps).sqrt() * weight.double()
