"""The session: lines of a person, which are questions, commands, or files that were dragged."""

import os
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from PIL import ImageGrab

from saccade.server.commands.chat.attachments import (
    AttachmentError,
    attach,
    attach_pasted,
    dragged,
)
from saccade.server.commands.chat.client import RequestFailed
from saccade.server.commands.chat.conversation import ConversationError
from saccade.server.commands.chat.output import tell
from saccade.server.commands.chat.turns import Turns

_HISTORY_LINES = 1000
_HELP = """/image PATH|URL   attach an image to the next question; so does its path alone on a line
/video PATH|URL   attach a video
/paste            attach the image in the clipboard
/system TEXT      set the system text; without TEXT, remove it
/undo             remove what is attached, or else the last question and its answer
/clear            forget the conversation, but for the system text
/save FILE [--no-media]   write the conversation as JSON; /load FILE continues it
/load FILE
/stats            tokens and times
/help  /quit
Ctrl-C stops an answer, Ctrl-D ends."""


class _Misused(Exception):
    """One line: how a command is written."""


class Session:
    """Reads lines until there are no more.

    Args:
        turns: answers the questions.
        history: the file that lines are kept in; None for none.
    """

    def __init__(self, turns: Turns, history: Path | None) -> None:
        self._turns = turns
        self._history = history
        self._commands: dict[str, Callable[[str], None]] = {
            "image": lambda rest: self._attach("image", rest),
            "video": lambda rest: self._attach("video", rest),
            "paste": self._paste,
            "system": self._system,
            "undo": self._undo,
            "clear": self._clear,
            "save": self._save,
            "load": self._load,
            "stats": self._stats,
            "help": lambda _: tell(_HELP),
        }

    def run(self) -> None:
        """Answers line by line. What goes wrong is told, and the session goes on."""
        self._start_editing()
        while True:
            try:
                line = self._read()
                if line is None or line in ("/quit", "/exit"):
                    return
                if line:
                    self._follow(line)
            except KeyboardInterrupt:
                tell("[stopped]")
            except (AttachmentError, ConversationError, RequestFailed, _Misused) as error:
                tell(f"error: {error}")

    def _follow(self, line: str) -> None:
        name, _, rest = line.removeprefix("/").partition(" ")
        if line.startswith("/") and name in self._commands:
            self._commands[name](rest.strip())
        elif files := dragged(line):
            for kind, path in files:
                self._turns.attach(attach(kind, path, self._turns.controls))
        elif line.startswith("/") and "/" not in name:
            raise _Misused(f"/{name} is no command; /help lists them")
        else:
            self._turns.ask(line)

    def _attach(self, kind: str, rest: str) -> None:
        self._turns.attach(attach(kind, _one(rest, f"/{kind} PATH|URL"), self._turns.controls))

    def _paste(self, _: str) -> None:
        try:
            pasted = ImageGrab.grabclipboard()
        except NotImplementedError as error:
            raise AttachmentError(
                "cannot paste: needs wl-paste or xclip, and has neither"
            ) from error
        except OSError as error:
            raise AttachmentError(f"cannot paste: {error}") from error
        if pasted is None:
            raise AttachmentError("no image in the clipboard")
        if isinstance(pasted, list):  # the paths of files, on other systems
            for path in pasted:
                self._turns.attach(attach("image", path, self._turns.controls))
        else:
            self._turns.attach(attach_pasted(pasted, self._turns.controls))

    def _system(self, rest: str) -> None:
        self._turns.conversation.system = rest
        tell("[system text set]" if rest else "[system text removed]")

    def _undo(self, _: str) -> None:
        done = self._turns.conversation.undo()
        tell("[undone]" if done else "[nothing to undo]")

    def _clear(self, _: str) -> None:
        self._turns.conversation.clear()
        tell("[cleared]")

    def _save(self, rest: str) -> None:
        words = _words(rest)
        media = "--no-media" not in words
        file = Path(_only([word for word in words if word != "--no-media"], "/save FILE"))
        self._turns.conversation.save(file.expanduser(), media)
        tell(f"[saved: {file}]")

    def _load(self, rest: str) -> None:
        file = Path(_one(rest, "/load FILE"))
        self._turns.conversation.load(file.expanduser())
        tell(f"[loaded: {len(self._turns.conversation.turns)} messages]")

    def _stats(self, _: str) -> None:
        answers = self._turns.answers
        if not answers:
            tell("[no answer yet]")
            return
        usages = [answer.usage or {} for answer in answers]
        prompt = sum(usage.get("prompt_tokens") or 0 for usage in usages)
        told = sum(usage.get("completion_tokens") or 0 for usage in usages)
        tell(f"[{len(answers)} answers of {prompt} prompt tokens and {told} answer tokens]")
        last, tokens = answers[-1], usages[-1].get("completion_tokens") or 0
        first = last.ttft_seconds or 0.0
        rate = (tokens - 1) / (last.seconds - first) if tokens > 1 else 0.0
        tell(f"[the last: {first:.2f} s to its first text, {last.seconds:.2f} s in all]")
        tell(f"[the last: {rate:.1f} tokens/s from its first text on]")

    def _read(self) -> str | None:
        """A line; None at the end."""
        try:
            if sys.stdout.isatty():
                line = input("> ")
            else:  # a prompt is no part of an answer
                print("> ", end="", file=sys.stderr, flush=True)
                line = sys.stdin.readline()
                if not line:
                    return None
        except EOFError:
            tell("")
            return None
        except KeyboardInterrupt:
            tell("")
            return ""
        except UnicodeDecodeError as error:
            raise _Misused(f"the line is no UTF-8 ({error.reason})") from error
        line = line.strip()
        if line and self._history is not None and sys.stdout.isatty():
            import readline

            with suppress(OSError):  # a full disk is no reason to end
                readline.append_history_file(1, self._history)
        return line

    def _start_editing(self) -> None:
        import readline  # `input` edits lines from here on

        if self._history is None:
            readline.set_auto_history(False)
            return
        try:
            self._history.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self._history, os.O_CREAT | os.O_RDWR, 0o600))
            self._history.chmod(0o600)
            readline.read_history_file(self._history)
        except OSError as error:
            tell(f"[no history: {self._history}: {error.strerror or error}]")
            self._history = None
        readline.set_history_length(_HISTORY_LINES)


def history_file() -> Path:
    """Where lines are kept, below XDG's folder of states."""
    states = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(states).expanduser() / "saccade" / "chat_history"


def _one(rest: str, form: str) -> str:
    """The one word after a command, or all of it where it is the name of a file as it stands."""
    return rest if rest and Path(rest).expanduser().exists() else _only(_words(rest), form)


def _only(words: list[str], form: str) -> str:
    if len(words) != 1:
        raise _Misused(f"write {form}")
    return words[0]


def _words(rest: str) -> list[str]:
    try:
        return shlex.split(rest)
    except ValueError as error:
        raise _Misused(f"{error}") from error
