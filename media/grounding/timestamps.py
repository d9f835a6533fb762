r"""Rewrites times of an answer about a trimmed video to times of the source. Pure.

The model counts from the first frame that it was shown. Times that are read, and nothing else:

- clock times anywhere: ``mm:ss``, ``mm:ss.ff``, ``hh:mm:ss``, ``hh:mm:ss.ff``. Minutes without
  hours may go beyond 59, as the form is kept;
- JSON numbers of seconds under `_KEYS`, alone (``3.5``), as text (``"3.5"``, ``"3.5s"``) or in a
  list (``[3.5, 7]``), also where the JSON stands escaped in a string.

A bare ``3.5 seconds`` may be a duration, and stays. Whole numbers stay whole, others keep their
decimals.
"""

import re

from saccade.media.grounding.stream_rewriter import WHITE, Rule, TextRewriter, json_key

_KEYS = (
    r"(?:start|end|begin|stop)(?:_?(?:time|timestamp|sec|secs|second|seconds|s)|Time)?"
    r"|times?|timestamps?|time_?(?:range|span|interval|start|end)|segments?|intervals?"
)
_CLOCK = re.compile(
    r"(?:([0-9]{1,2}):(?=[0-9]{2}:))?([0-9]{1,3}):([0-5][0-9])(?:\.([0-9]{1,6}))?([.:]?)"
)
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.([0-9]{1,9}))?")
_LIST = re.compile(rf"{WHITE}{_SECONDS.pattern}(?:{WHITE},{WHITE}{_SECONDS.pattern})*{WHITE}")
_DIGITS = frozenset("0123456789")
_LONGEST = 24
_LONGEST_LIST = 1024


class TimeRewriter(TextRewriter):
    """Rewrites the times of one text.

    Args:
        offset: seconds to add: the source's time at the first frame shown, or its negative for the
            way back. None: unknown, the times stay.

    Attributes:
        undecided: times left as they were because the offset is unknown.
    """

    def __init__(self, offset: float | None) -> None:
        self._offset = offset
        self.undecided = 0
        clock = Rule(
            re.compile(r"(?<![\w:.])(?P<held>[0-9])"),
            _DIGITS,
            re.compile(r"[0-9:.]*"),
            _LONGEST,
            self._clock,
        )
        seconds = Rule(
            re.compile(json_key(_KEYS) + r"(?P<held>[0-9])"),
            _DIGITS,
            re.compile(r"[-+0-9.eE]*"),
            _LONGEST,
            self._seconds,
        )
        quoted = Rule(
            re.compile(json_key(_KEYS) + r"\\{0,7}[\"'](?P<held>[0-9])"),
            _DIGITS,
            re.compile(r"[0-9:.]*s?"),
            _LONGEST,
            self._quoted,
        )
        listed = Rule(
            re.compile(json_key(_KEYS) + r"[\[(]"),
            frozenset("[("),
            re.compile(r"[-+0-9.,eE \t\r\n\\nrt]*"),
            _LONGEST_LIST,
            self._listed,
        )
        super().__init__([seconds, quoted, listed, clock])

    def _seconds(self, _: re.Match[str], numbers: str, ending: str) -> str | None:
        # At the end of the text more digits may be missing.
        if not ending or not re.match(r"[ \t\r\n,}\]\\]", ending):
            return None
        return self._number(numbers)

    def _quoted(self, opener: re.Match[str], numbers: str, ending: str) -> str | None:
        if not re.match(r"[\"'\\]", ending):
            return self._clock(opener, numbers, ending)  # or one end of a range
        number = numbers.removesuffix("s")
        shifted = self._clock(opener, number, ending) if ":" in number else self._number(number)
        return shifted and shifted + numbers[len(number) :]

    def _listed(self, _: re.Match[str], numbers: str, ending: str) -> str | None:
        if ending not in ("]", ")") or not _LIST.fullmatch(numbers):
            return None
        return _SECONDS.sub(lambda number: self._number(number[0]) or number[0], numbers)

    def _number(self, number: str) -> str | None:
        read = _SECONDS.fullmatch(number)
        if read is None:
            return None
        shifted = self._shifted(float(number))
        width = len(number) if re.match("0[0-9]", number) else 0  # "01.00" keeps its form
        return number if shifted is None else f"{shifted:0{width}.{len(read[1] or '')}f}"

    def _clock(self, _: re.Match[str], numbers: str, ending: str) -> str | None:
        read = _CLOCK.fullmatch(numbers)
        if read is None or re.match(r"[\w.:]", ending):
            return None
        hours, minutes, whole, decimals, after = read.groups()
        if hours is not None and int(minutes) > 59:
            return None
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
        return max(0.0, time + self._offset)
