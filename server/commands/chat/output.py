"""The answer on the terminal, or in a pipe. Stdout holds answers, all else goes to stderr."""

import os
import sys
import unicodedata
from collections.abc import Iterable
from types import TracebackType

from rich.console import Console, ConsoleOptions
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment

_REFRESHES = 8  # a second
_HARMFUL = ("Cc", "Cs", "Zl", "Zp")  # categories of Unicode
# They turn the order of what follows, so that a line reads otherwise than it is.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """The text without what could disturb a terminal: a model may say anything."""
    return "".join(map(_harmless, text))


def tell(text: str) -> None:
    """Says a line that is no part of an answer."""
    print(printable(text), file=sys.stderr, flush=True)


def is_terminal() -> bool:
    """Whether answers go to a terminal that can do more than append."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class PlainOutput:
    """The answer as it comes: exactly, or harmless where a terminal reads it."""

    def __init__(self) -> None:
        self._clean = printable if sys.stdout.isatty() else str
        self._begun = False

    def __enter__(self) -> "PlainOutput":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._begun or error is None:
            print(flush=True)

    def show(self, piece: str) -> None:
        """Adds a piece of text."""
        self._begun = True
        print(self._clean(piece), end="", flush=True)


class MarkdownOutput:
    """The answer as Markdown: its end while it comes, then the whole."""

    def __init__(self) -> None:
        self._text = ""
        self._console = Console(file=sys.stdout, highlight=False, force_terminal=True)
        self._live = Live(
            console=self._console,
            get_renderable=lambda: _Tail(self._text),
            refresh_per_second=_REFRESHES,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> "MarkdownOutput":
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()
        if self._text:
            self._console.print(_Harmless(self._text))

    def show(self, piece: str) -> None:
        """Adds a piece of text."""
        self._text += piece


class Silent:
    """Shows nothing: ``--json`` prints the answer when it is whole."""

    def __enter__(self) -> "Silent":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def show(self, piece: str) -> None:
        """Shows nothing."""


class _Harmless:
    """Markdown, cleaned after it has been laid out: `&#x202e;` turns the line by then."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        # Links show where they lead.
        markdown = Markdown(printable(self._text), hyperlinks=False)
        for token in markdown.parsed:
            for child in token.children or ():
                if child.type == "softbreak":  # lines that were read in an image stay lines
                    child.type = "hardbreak"
        for segment in console.render(markdown, options):
            if segment.control is None:
                yield Segment(printable(segment.text), segment.style)


class _Tail(_Harmless):
    """The last lines, as many as the window has."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        lines = console.render_lines(_Harmless(self._text), options, pad=False)
        for line in lines[-max(1, console.height - 2) :]:
            yield from line
            yield Segment.line()


def _harmless(letter: str) -> str:
    if letter == "\n" or (letter.isprintable() and letter.isascii()):
        return letter
    if letter == "\t":
        return "    "
    if unicodedata.category(letter) in _HARMFUL or letter in _TURNING:
        return "·"
    return letter
