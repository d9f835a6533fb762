"""Media of a request, as the model is shown them."""

from collections.abc import Iterable
from dataclasses import dataclass

from saccade.media.planning.plan import ImagePlan, VideoPlan


@dataclass(frozen=True)
class VisionTokens:
    """Prompt tokens by modality."""

    image: int = 0
    video: int = 0

    @classmethod
    def of(cls, seen: Iterable["SeenMedium"]) -> "VisionTokens":
        """What all media of a request take together."""
        plans = [medium.plan for medium in seen]
        return cls(
            sum(plan.tokens for plan in plans if isinstance(plan, ImagePlan)),
            sum(plan.tokens for plan in plans if isinstance(plan, VideoPlan)),
        )


@dataclass(frozen=True)
class SeenMedium:
    """What the model is shown of one medium. ``path`` is its part's place in the request."""

    path: str
    plan: ImagePlan | VideoPlan
    sideways: bool = False  # stored turned by a quarter; the plan's source size is upright
