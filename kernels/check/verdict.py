"""When figures count: what every kernel makes is right.

Attention may err 1.25 times as much as PyTorch code in the same format. What works on single
numbers must be exact, or rounded once. No tolerance is a number that somebody chose, but for the
factor and for the few roundings of float32.
"""

from dataclasses import dataclass, field

import torch

from .cases.truth import half_steps, relative_error
from .guards import UNTOUCHED, Guarded

WORSE = 1.25  # than the error of PyTorch code in the same format
RIGHT = 0.05  # relative error above which a result in 16 bits is another result
_FEW_ROUNDINGS = 2.0**-20  # of float32, relative
_FLOAT32 = 2e-6  # error of attention in float32, beside the largest result


@dataclass
class Verdict:
    """On one case.

    Attributes:
        error: Relative, root mean square.
        problems: One line each; none if all is right.
    """

    error: float = 0.0
    problems: list[str] = field(default_factory=list)

    def require(self, fact: bool, problem: str) -> None:
        """What must hold, and what is said if it does not."""
        if not fact:
            self.problems.append(problem)

    def hold_attention(
        self,
        found: torch.Tensor,
        exact: torch.Tensor,
        rounded: torch.Tensor | None = None,
        wide: torch.Tensor | None = None,
        *,
        steepness: float = 1.0,
    ) -> None:
        """The largest error beside that of PyTorch code in the format, the mean error beside that
        of such code with wide scores; in float32, beside the largest result.

        Args:
            rounded: `truth.rounded_attention` with products in the format; None in float32.
            wide: The same with wider products.
            steepness: How large scores are, beside those of normal queries and keys: errors grow
                with them, of PyTorch's code too.
        """
        self.error = relative_error(found, exact)
        error = (found.double() - exact).abs()
        steepness = max(1.0, steepness)
        if rounded is None or wide is None:
            limit = _FLOAT32 * steepness * float(exact.abs().max())
            self._hold("largest error", float(error.max()), limit)
            return
        self._hold("relative error", self.error, RIGHT * steepness)
        # A result is rounded at least once, by up to half of eps of its size.
        least = torch.finfo(found.dtype).eps / 2 * float(exact.abs().max())
        largest = float((rounded.double() - exact).abs().max())
        self._hold("largest error", float(error.max()), max(WORSE * largest, least))
        mean = float((wide.double() - exact).abs().mean())
        self._hold("mean error", float(error.mean()), WORSE * mean)

    def hold_equal(self, found: torch.Tensor, exact: torch.Tensor) -> None:
        """Ours equals the truth rounded to float32 and then to its own format, bit for bit."""
        self.error = relative_error(found, exact)
        different = int((found != exact.float().to(found.dtype)).sum())
        self.require(not different, f"{different} of {found.numel()} numbers are not exact")

    def hold_one_rounding(
        self, found: torch.Tensor, exact: torch.Tensor, slack: torch.Tensor | None = None
    ) -> None:
        """Ours is the truth after a few roundings of float32 and one to its own format.

        Args:
            slack: What the roundings of float32 may cost; by default a few of the result's own.
        """
        self.error = relative_error(found, exact)
        slack = exact.abs() * _FEW_ROUNDINGS if slack is None else slack
        near = (found.double() - exact).abs() <= half_steps(exact, found.dtype) + slack
        wrong = int((~near).sum())  # so that NaN is wrong
        self.require(not wrong, f"{wrong} of {found.numel()} numbers are not rounded once")

    def hold_within_a_step(self, found: torch.Tensor, exact: torch.Tensor) -> None:
        """Ours is the truth, which is a number of the format, or a neighbour of it."""
        self.hold_one_rounding(found, exact, half_steps(exact, found.dtype))

    def hold_result(self, guarded: Guarded | None, written: slice) -> None:
        """Nothing but the rows ``written`` of a result was written; nor anything around it."""
        if guarded is None:
            self.problems.append("the check is blind: it did not see the result's allocation")
            return
        around = bool(guarded.holds(UNTOUCHED))
        self.require(around, "memory around the result was written")
        rows = guarded.inside
        spared = (rows[: written.start], rows[written.stop :])
        self.require(
            all(bool(part.isnan().all()) for part in spared), "rows of no segment are written"
        )

    def _hold(self, kind: str, error: float, limit: float) -> None:
        # Not the other way round, so that NaN is a problem.
        self.require(error <= limit, f"the {kind} is {error:.2g}, above {limit:.2g}")
