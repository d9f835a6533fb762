"""The phases of a training run: what is trained, on what, and how fast it learns."""

from dataclasses import dataclass

from saccade.demo.conversations.draw import (
    COPIES_FROM,
    COPIES_UNTIL,
    FORMS_FROM,
    REVIEW_FROM,
    SEVERAL_FROM,
)

_WARM_UP = 100  # steps, at the beginning of each phase
_LEAST = 0.02  # of the peak of a phase
# Of the tower's peak, when the language model learns too.
_PEAK_OF_BOTH, _PEAK_OF_CLIPS, _PEAK_OF_TALK = 0.3, 0.15, 0.3
_RATE_OF_COPIES, _PEAK_AFTER_COPIES = 0.25, 0.2
_TALK_FALLS_IN, _FALLS_AFTER_COPIES_IN = 4000, 1700  # steps, in which the rate would be nothing
_PEAK_OF_REVIEW, _REVIEW_FALLS_IN, _PEAK_OF_SEVERAL = 0.18, 4900, 0.15
_PEAK_OF_FORMS = 0.1


@dataclass(frozen=True)
class Schedule:
    """How many steps each phase has."""

    tower: int  # the tower alone
    both: int  # the tower and the language model
    clips: int  # both, with more videos, and with what questions about events name

    @property
    def steps(self) -> int:
        """In all."""
        return self.tower + self.both + self.clips

    def is_about_clips(self, step: int) -> bool:
        """Whether this step, counted from zero, belongs to the last phase."""
        return step >= self.tower + self.both

    def rate_share(self, step: int) -> float:
        """Of the peak learning rate: constant for the tower, then a straight fall in each phase."""
        if step < self.tower:
            return min(1.0, (step + 1) / _WARM_UP)
        begun, length, peak = step - self.tower, self.both, _PEAK_OF_BOTH
        if self.is_about_clips(step):
            begun, length, peak = begun - self.both, self.clips, _PEAK_OF_CLIPS
        return peak * min(1.0, (begun + 1) / _WARM_UP) * max(_LEAST, 1 - begun / length)


@dataclass(frozen=True)
class TalkSchedule:
    """A run of conversations."""

    steps: int
    tower: int = 0

    def rate_share(self, step: int) -> float:
        """Of the peak learning rate: a straight fall, constant while most steps are of copies, and
        four more falls."""
        if step < COPIES_FROM:
            warm = min(1.0, (step + 1) / _WARM_UP)
            return _PEAK_OF_TALK * warm * (1 - step / _TALK_FALLS_IN)
        if step < COPIES_UNTIL:
            return _RATE_OF_COPIES
        if step < REVIEW_FROM:
            return _PEAK_AFTER_COPIES * (1 - (step - COPIES_UNTIL) / _FALLS_AFTER_COPIES_IN)
        if step < SEVERAL_FROM:
            left = (REVIEW_FROM + _REVIEW_FALLS_IN - step) / _REVIEW_FALLS_IN
            return _PEAK_OF_REVIEW * left
        if step < FORMS_FROM:
            left = (FORMS_FROM - step) / (FORMS_FROM - SEVERAL_FROM)
            return _PEAK_OF_SEVERAL * max(_LEAST, left)
        return _PEAK_OF_FORMS * max(_LEAST, (self.steps - step) / (self.steps - FORMS_FROM))
