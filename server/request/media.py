"""Media of a request, as the model is shown them."""

from dataclasses import dataclass

from saccade.media.planning.plan import ImagePlan, VideoPlan


@dataclass(frozen=True)
class VisionTokens:
    """Prompt tokens by kind of medium."""

    image: int = 0
    video: int = 0


@dataclass(frozen=True)
class SeenMedium:
    """What the model is shown of one medium. ``path`` is its part's place in the request."""

    path: str
    plan: ImagePlan | VideoPlan
    sideways: bool = False  # stored turned by a quarter; the plan's source size is upright
