r"""Rewrites times of an answer about a trimmed video to times of the source. Pure.

The model counts from the first frame that it was shown. Times that are read, and nothing else:

- clock times anywhere: ``mm:ss``, ``mm:ss.ff``, ``hh:mm:ss``, ``hh:mm:ss.ff``. Minutes without
  hours may go beyond 59, as the form is kept;
- JSON numbers of seconds under ``start``, ``end``, ``time``, ``timestamp``, ``start_time`` and
  ``end_time``, also where the JSON stands escaped in a string.

Whole numbers stay whole, others keep their decimals.
"""

import re

from saccade.media.grounding.stream_rewriter import Rule, TextRewriter, json_key

_KEYS = "start|end|time|timestamp|start_time|end_time"
_CLOCK = re.compile(
    r"(?:([0-9]{1,2}):(?=[0-9]{2}:))?([0-9]{1,3}):([0-5][0-9])(?:\.([0-9]{1,6}))?([.:]?)"
)
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.([0-9]{1,9}))?")
_LONGEST = 24


class TimeRewriter(TextRewriter):
    """Rewrites the times of one text.

    Args:
        offset: seconds to add: the source's time at the first frame shown. None: unknown, the
            times stay.

    Attributes:
        undecided: times left as they were because the offset is unknown.
    """

    def __init__(self, offset: float | None) -> None:
        self._offset = offset
        self.undecided = 0
        clock = Rule(
            re.compile(r"(?<![\w:.])(?P<held>[0-9])"),
            re.compile(r"[0-9:.]*"),
            _LONGEST,
            self._clock,
        )
        seconds = Rule(
            re.compile(json_key(_KEYS) + r"(?P<held>[0-9])"),
            re.compile(r"[-+0-9.eE]*"),
            _LONGEST,
            self._seconds,
        )
        super().__init__([seconds, clock])

    def _seconds(self, _: re.Match[str], numbers: str, ending: str) -> str:
        read = _SECONDS.fullmatch(numbers)
        # At the end of the text more digits may be missing.
        if read is None or not ending or not re.match(r"[ \t\r\n,}\]\\]", ending):
            return numbers
        shifted = self._shifted(float(numbers))
        return numbers if shifted is None else f"{shifted:.{len(read[1] or '')}f}"

    def _clock(self, _: re.Match[str], numbers: str, ending: str) -> str:
        read = _CLOCK.fullmatch(numbers)
        if read is None or re.match(r"[\w.:]", ending):
            return numbers
        hours, minutes, whole, decimals, after = read.groups()
        if hours is not None and int(minutes) > 59:
            return numbers
        fraction = f".{decimals}" if decimals else ""
        time = 3600 * int(hours or 0) + 60 * int(minutes) + float(whole + fraction)
        shifted = self._shifted(time)
        if shifted is None:
            return numbers
        places = len(decimals or "")
        units = round(shifted * 10**places)
        total, part = divmod(units, 10**places)
        fraction = f".{part:0{places}d}" if places else ""
        total, second = divmod(total, 60)
        if hours is None:
            return f"{total:0{len(minutes)}d}:{second:02d}{fraction}{after}"
        hour, minute = divmod(total, 60)
        return f"{hour:0{len(hours)}d}:{minute:02d}:{second:02d}{fraction}{after}"

    def _shifted(self, time: float) -> float | None:
        if self._offset is None:
            self.undecided += 1
            return None
        return time + self._offset
