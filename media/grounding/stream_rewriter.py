"""Rewrites numbers in a streamed text. Pure.

What goes out depends on the text alone, never on how it was cut into pieces, and nothing is held
back but the numbers that may have to change.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Characters of emitted text that an opener may look at; more than the longest opener takes.
_CONTEXT = 512

MARK = "\0"
WHITE = r"(?:[ \t\r\n]|\\{1,3}[nrt]){0,32}"
"""White space between JSON's tokens, in a string within JSON as well."""


def json_key(names: str) -> str:
    r"""A pattern for a key and its colon; ``names`` is a pattern too.

    In a string within JSON the quotes are escaped: ``\"key\":``. Python writes them single.
    """
    return rf"""(?<!\\)(?P<quote>\\{{0,7}}["'])(?P<key>{names})(?P=quote){WHITE}:{WHITE}"""


@dataclass(frozen=True)
class Rule:
    """One kind of place where numbers stand.

    Attributes:
        opener: what stands before them. They begin at its group ``held``, or else at its end. It
            takes less than 512 characters, and two of its matches never overlap.
        endings: characters of which one is the last of every opener: most pieces have none.
        characters: matches a run of the characters that they are written in.
        longest: their length at most. What runs on is not rewritten, and not waited for.
        rewrite: (opener's match, numbers, the character after them or "" at the end of the text)
            -> what stands in their place; None: they are not what the rule is about, and stay.
    """

    opener: re.Pattern[str]
    endings: frozenset[str]
    characters: re.Pattern[str]
    longest: int
    rewrite: Callable[[re.Match[str], str, str], str | None]


class TextRewriter:
    """Applies rules to one text.

    Args:
        rules: of two whose numbers begin at the same place the first counts.
        observe: is told the original text up to a place before that place is rewritten.

    Attributes:
        passed: pieces of the original text, with `MARK` in place of numbers that a rule was about.
    """

    def __init__(self, rules: Sequence[Rule], observe: Callable[[str], None] | None = None) -> None:
        self._rules = rules
        self._observe = observe
        self.passed: list[str] = []
        self._context = ""
        self._held = ""
        self._opened: tuple[Rule, re.Match[str]] | None = None

    def feed(self, piece: str) -> str:
        """Takes the next piece; returns what may go out."""
        # In slices: from every opener on, what is left of a piece is searched again.
        slices = range(0, len(piece), _CONTEXT)
        return "".join(self._advance(piece[at : at + _CONTEXT], last=False) for at in slices)

    def close(self) -> str:
        """Ends the text; returns what was held back."""
        return self._advance("", last=True)

    def _advance(self, piece: str, last: bool) -> str:
        out: list[str] = []
        while True:
            if self._opened is None:
                piece = self._pass_to_opener(piece, out)
            if self._opened is None:
                return "".join(out)
            piece = self._hold(piece, last, out)
            if self._opened is not None:
                return "".join(out)

    def _pass_to_opener(self, text: str, out: list[str]) -> str:
        """Emits up to where the next numbers may begin; returns what comes after."""
        whole = self._context + text
        found = len(whole)
        for rule in self._rules:
            if rule.endings.isdisjoint(text):
                continue
            for match in rule.opener.finditer(whole):
                start = match.start("held") if "held" in rule.opener.groupindex else match.end()
                # One that ended with the emitted text has been followed already.
                if start >= len(self._context) < match.end():
                    if self._opened is None or start < found:
                        found, self._opened = start, (rule, match)
                    break
        passed = found - len(self._context)
        self.passed.append(text[:passed])
        self._emit(text[:passed], text[:passed], out)
        return text[passed:]

    def _hold(self, text: str, last: bool, out: list[str]) -> str:
        """Collects numbers and emits them at their end; returns what comes after."""
        assert self._opened is not None
        rule, match = self._opened
        self._held += text
        run = rule.characters.match(self._held)
        length = min(run.end() if run else 0, rule.longest)
        if length == len(self._held) and not last:
            return ""
        numbers, rest = self._held[:length], self._held[length:]
        rewritten = rule.rewrite(match, numbers, rest[:1])
        self.passed.append(numbers if rewritten is None else MARK)
        self._emit(numbers, numbers if rewritten is None else rewritten, out)
        self._held, self._opened = "", None
        return rest

    def _emit(self, original: str, text: str, out: list[str]) -> None:
        out.append(text)
        self._context = (self._context + original)[-_CONTEXT:]
        if self._observe is not None:
            self._observe(original)
