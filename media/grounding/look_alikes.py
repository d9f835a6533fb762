"""Finds what looks like a box, a point or a time in what a rewriter has passed. Pure.

Used only for warnings: a number too many costs a line, one too few a caller who trusts a wrong
place. Shares (``50%``), sizes in words and ratios (``16:9``) are not looked for.
"""

import re
from collections.abc import Iterable

from saccade.media.grounding.stream_rewriter import MARK

_MOST = 3  # that are shown
_LONGEST = 48  # characters of each

_N = r"-?[0-9]{1,6}(?:\.[0-9]{1,9})?"
# Chinese punctuation too. One way to match each, or matching takes exponential time.
_AND = r"(?:\s{1,32}|\s{0,32}[,;\uff0c\u3001]\s{0,32})"
_OPEN, _CLOSE = r"[\[({<\uff08\u3010]", r"[\])}>\uff09\u3011]"
_IS = r"\\{0,7}[\"']?\s{0,8}[:=]\s{0,8}\\{0,7}[\"']?"
_WORD = r"(?:(?<![^\W_])|(?-i:(?<=[a-z])(?=[A-Z])))"  # begins, in snake_case or camelCase too
_TIMES = (
    r"(?:time|second|start|end|begin|stop|from|until|segment|interval|span|moment)"
    r"(?:n?ing|time|code|sec|stamp)?s?(?:_\w{0,16}|(?-i:[A-Z])\w{0,16}|[0-9]{1,3})?"
)
_SIDE = (
    r"(?:(?:start|end|from|to|center|min|max|[cp])_?)?"
    r"(?:[xy](?:[0-9]{1,2}|_?(?:min|max|pos|start|end|center))?|left|top|right|bottom|width|height)"
)
_NAME = (
    r"(?:box|bounds|point|coord|polygon|quad|corner|vert(?:ex|ices)|contour|segmentation"
    rf"|cent(?:er|re)|{_WORD}(?:position|location|region|rect|click|tap(?!e)))"
)
_TAG = r"(?:box|bbox|points?|quad|poly\w*|region|coord\w*)"

_PLACE = re.compile(
    rf"""
    # No place: a list of times.
    (?:time|segment(?!ation)|interval)\w{{0,16}}{_IS}\s{{0,8}}[\[(][\[(\s]{{0,8}}{_N}(?:[,\s\[\]()]{{1,8}}{_N}){{0,64}}
    | (?P<found>
        # Two, four or up to eight numbers in brackets.
        {_OPEN}\s{{0,8}}{_N}{_AND}{_N}(?:{_AND}{_N}{_AND}{_N}(?:{_AND}{_N}){{0,4}})?\s{{0,8}}{_CLOSE}
        # A tag before numbers, or one for each.
        | <\|?{_TAG}(?:_start)?\|?>[\s\[(]{{0,8}}{_N} | <\|?(?:loc|bin|coord)_?[0-9]{{1,4}}\|?>
        # x and y, or sides, each with its name.
        | \b{_SIDE}{_IS}{_N}(?:px)?[^\w]{{1,16}}(?:and\s)?{_SIDE}{_IS}{_N}
        # Numbers behind a name.
        | \b\w{{0,16}}{_NAME}\w{{0,8}}(?:{_IS}|\s(?:is|are|at|of)\s|\s)
          [\s\[({{\"']{{0,8}}{_N}{_AND}{_N}
        # Four behind a colon; nothing else in the line.
        | :\s{{1,8}}{_N}(?:,[ ]?{_N}){{3}}(?![.,]?[ ]?[0-9])
        | ^[^\w\n]{{0,8}}{_N}(?:,[ \t]{{1,8}}{_N}|(?:[ \t,;]{{1,8}}{_N}){{3}})[^\w\n]{{0,8}}$
    )
    """,
    re.VERBOSE | re.MULTILINE | re.IGNORECASE,
)
_SECONDS = r"[0-9]{1,6}(?:\.[0-9]{1,9})?"
_DECIMAL = r"[0-9]{1,6}\.[0-9]{1,9}"
_UNIT = r"(?:m?s|secs?|seconds?|mins?|minutes?|h|hours?|秒|分)"
_TIME = re.compile(
    rf"""
    (?P<found>
        # With a unit, but for decades.
        (?<![A-Za-z0-9_.])(?!(?:19|20)[0-9]0s){_SECONDS}\s?{_UNIT}(?![A-Za-z])
        | \b[0-9]{{1,3}}m[0-9]{{1,2}}(?:\.[0-9]{{1,9}})?s\b
        # Behind a name.
        | (?:{_WORD}{_TIMES}|\b(?:ts?|to|at|onset|offset)){_IS}
          [\s\[({{\"'\\]{{0,8}}(?:(?:between|from|at|about|around)\s)?{_SECONDS}
        | (?:\b(?:seconds?|timestamps?)\s|<{_TIMES}>\s?){_SECONDS}
        # Two decimals, as a range or in brackets; one with nothing else in the line.
        | (?<![0-9.]){_DECIMAL}\s?(?:-|\u2013|\u2014|to|and|until)\s?{_DECIMAL}(?![0-9.])
        | [\[(]\s?{_DECIMAL}\s?,\s?{_DECIMAL}\s?[\])]
        | ^[^\w\n]{{0,8}}{_DECIMAL}[^\w\n]{{0,8}}$
        # With a number of the frame; decimals behind a comma, as in subtitles: of these only the
        # clock time before them was rewritten.
        | (?<![\w:.])[0-9]{{1,2}}:[0-9]{{2}}:[0-9]{{2}}(?:[:;][0-9]{{2}})?
        | (?<={MARK}),[0-9]{{1,3}}(?![0-9:])
    )
    """,
    re.VERBOSE | re.MULTILINE | re.IGNORECASE,
)


def like_places(passed: Iterable[str]) -> list[str]:
    """The first few of what looks like a box or a point.

    Args:
        passed: `TextRewriter.passed`.
    """
    return _found(_PLACE, passed)


def like_times(passed: Iterable[str]) -> list[str]:
    """The first few of what looks like a time; ``passed`` as in `like_places`."""
    return _found(_TIME, passed)


def _found(pattern: re.Pattern[str], passed: Iterable[str]) -> list[str]:
    found: list[str] = []
    for match in pattern.finditer("".join(passed)):
        text = (match["found"] or "").strip()[:_LONGEST]
        if text and text not in found:
            found.append(text)
        if len(found) == _MOST:
            break
    return found
