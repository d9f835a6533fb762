"""At which rates a server is asked: requests a second, or shares of what it can do at most."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

SWEEP = "inf,25%,50%,80%,100%,120%"
METRICS = {"ttft": "ttft", "tpot": "tpot", "e2e": "e2el"}  # ours to vLLM's names


@dataclass(frozen=True)
class Rate:
    """Requests a second. A share is of the saturation: what comes of all requests at once."""

    value: float  # inf: all at once
    is_share: bool = False

    @property
    def label(self) -> str:
        """As it is written on the command line."""
        return f"{100 * self.value:g}%" if self.is_share else f"{self.value:g}"

    def resolve(self, saturation: float) -> float:
        """Requests a second."""
        return self.value * saturation if self.is_share else self.value


def parse_rates(text: str) -> tuple[Rate, ...]:
    """``2,4,inf`` or ``inf,50%``, or ``sweep``; what shares are of comes first."""
    rates = []
    for word in (SWEEP if text == "sweep" else text).split(","):
        try:
            value = float(word.removesuffix("%"))
        except ValueError:
            value = 0.0
        if not value > 0 or (word.endswith("%") and math.isinf(value)):
            raise argparse.ArgumentTypeError(f"{word!r} is not like 2.5, 80%, inf or sweep")
        rates.append(Rate(value / 100, True) if word.endswith("%") else Rate(value))
    if len(set(rates)) < len(rates):
        raise argparse.ArgumentTypeError(f"{text!r} has a rate twice")
    return _saturation_first(rates)


def _saturation_first(rates: Sequence[Rate]) -> tuple[Rate, ...]:
    most = Rate(math.inf)
    if most in rates or any(rate.is_share for rate in rates):
        return (most, *(rate for rate in rates if rate != most))
    return tuple(rates)


def parse_slo(text: str) -> dict[str, float]:
    """``ttft:500,e2e:2000`` as milliseconds by vLLM's names."""
    limits: dict[str, float] = {}
    for pair in text.split(","):
        name, _, limit = pair.partition(":")
        try:
            value = float(limit)
        except ValueError:
            value = math.nan
        if name not in METRICS or not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(
                f"{pair!r} is not like ttft:500; limits are milliseconds of {', '.join(METRICS)}"
            )
        limits[METRICS[name]] = value
    return limits
