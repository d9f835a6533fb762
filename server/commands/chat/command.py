"""`saccade chat`: asks a server that speaks OpenAI's API, once or in a session."""

import argparse
import math
import os
import sys
from contextlib import suppress
from pathlib import Path

from saccade.media.controls import ImageControls, VideoControls, parse_controls
from saccade.media.errors import MediaError
from saccade.server.commands.chat.attachments import IMAGE_CONTROLS, AttachmentError, attach
from saccade.server.commands.chat.client import Client, RequestFailed, base_url
from saccade.server.commands.chat.conversation import Conversation
from saccade.server.commands.chat.output import tell
from saccade.server.commands.chat.pictures import KINDS
from saccade.server.commands.chat.session import Session, history_file
from saccade.server.commands.chat.turns import Turns, picture_kind

_LOCAL = "http://localhost:8000"
_KEY = "OPENAI_API_KEY"
_PIXELS = ("min_pixels", "max_pixels", "resized_width", "resized_height")
_SECONDS = {"fps": "frames a second", "video_start": "second", "video_end": "second"}
_EPILOG = """examples:
  saccade chat                                     a session; /help in it tells more
  saccade chat --image photo.jpg "What is this?"
  saccade chat --video clip.mp4 --fps 4 --video-end 20 "What happens?"
  saccade chat --image desk.jpg --boxes found.png "Locate every cup, as JSON."
  git diff | saccade chat --system "Say in one line what this changes."
  saccade chat --json --max-tokens 64 --fail-on-length - < question.txt
  OPENAI_BASE_URL=https://api.example.com/v1 saccade chat --model NAME

exit codes: 0 done, 1 the request failed, 2 wrong use, 3 cut (--fail-on-length), 130 interrupted
"""


class Misuse(Exception):
    """One line: what is wrong with the flags, or with what they name."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's flags."""
    parser.description = (
        "Asks a server that speaks OpenAI's API about images and videos. With a question, or one "
        "on stdin, it prints the answer and ends; else it is a session."
    )
    parser.epilog = _EPILOG
    parser.add_argument("question", nargs="?", help="what to ask; - reads it from stdin")
    where = parser.add_argument_group("server")
    where.add_argument("--url", help=f"default: $OPENAI_BASE_URL, or {_LOCAL}")
    where.add_argument("--model", help="default: the first that the server names")
    where.add_argument("--api-key-env", metavar="NAME", help=f"variable of the key: {_KEY}")
    asked = parser.add_argument_group("question")
    for kind in ("image", "video"):
        asked.add_argument(
            f"--{kind}",
            action=_Media,
            dest="media",
            default=[],
            metavar="FILE|URL",
            help=f"attach this {kind}; may be given several times",
        )
    asked.add_argument("--system", default="", metavar="TEXT", help="the system text")
    asked.add_argument("--max-tokens", type=int, metavar="N", help="of the answer, at most")
    asked.add_argument("--temperature", type=float, metavar="T", help="default: the server's")
    for name in _PIXELS:
        asked.add_argument(_flag(name), type=int, metavar="N", help="pixels, of images and videos")
    for name, unit in _SECONDS.items():
        asked.add_argument(_flag(name), type=float, metavar="X", help=f"{unit}, of videos")
    shown = parser.add_argument_group("output")
    shown.add_argument("--json", action="store_true", help="one JSON object a turn on stdout")
    shown.add_argument("--boxes", type=Path, metavar="FILE.png", help="draw located things there")
    shown.add_argument(
        "--picture", choices=("auto", *KINDS), default="auto", help="how attached images are shown"
    )
    shown.add_argument("--fail-on-length", action="store_true", help="exit 3 for a cut answer")
    shown.add_argument("--no-history", action="store_true", help="keep no file of typed lines")


def run(args: argparse.Namespace) -> int:
    """Ask once, or start a session; returns the exit code."""
    try:
        return _run(args)
    except (Misuse, AttachmentError) as error:
        return _fail(str(error), 2)
    except RequestFailed as error:
        return _fail(str(error), 1)
    except BrokenPipeError:
        # Whoever read the answers has gone; what is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(args: argparse.Namespace) -> int:
    with suppress(AttributeError):
        # An answer may hold what the locale's encoding does not.
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
        sys.stderr.reconfigure(errors="replace")  # type: ignore[union-attr]
    controls = _controls(args)
    options = _options(args)
    if args.boxes is not None and not args.boxes.parent.is_dir():
        raise Misuse(f"--boxes: there is no folder {args.boxes.parent}")
    attachments = [attach(kind, source, controls) for kind, source in args.media]
    question = _question(args.question)
    _check_use(args, controls, question is not None)
    try:
        url = base_url(args.url or os.environ.get("OPENAI_BASE_URL") or _LOCAL)
    except ValueError as error:
        raise Misuse(f"--url: {error}") from error
    client = Client(url, _key(args.api_key_env))
    model = args.model or client.first_model()
    turns = Turns(
        client,
        model,
        Conversation(args.system),
        options=options,
        controls=controls,
        as_json=args.json,
        boxes=args.boxes,
        picture=picture_kind(args.picture),
    )
    if question is None:
        tell(f"{model} at {url}; /help tells what can be typed, Ctrl-D ends")
    for attachment in attachments:
        turns.attach(attachment)
    if question is None:
        Session(turns, None if args.no_history else history_file()).run()
        return 0
    answer = turns.ask(question)
    return 3 if args.fail_on_length and answer.finish_reason == "length" else 0


def _question(given: str | None) -> str | None:
    """The question of the command line or of stdin; None for a session."""
    if given is not None and given != "-":
        text = given
    elif given is None and sys.stdin is not None and sys.stdin.isatty():
        return None
    else:
        if sys.stdin is None:
            raise Misuse("there is no question, and stdin is closed")
        try:
            text = sys.stdin.buffer.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise Misuse("stdin is no text in UTF-8; attach files with --image") from error
    if not text.strip():
        raise Misuse("the question is empty")
    return text.rstrip("\n")


def _controls(args: argparse.Namespace) -> dict[str, float]:
    """Qwen's controls that were given."""
    names = (*_PIXELS, *_SECONDS)
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    try:
        parse_controls(ImageControls, {name: given.get(name) for name in IMAGE_CONTROLS}, "")
        parse_controls(VideoControls, given, "")
    except MediaError as error:
        raise Misuse(f"{_flag((error.param or '').lstrip('.'))}: {error.message}") from error
    return given


def _check_use(args: argparse.Namespace, controls: dict[str, float], once: bool) -> None:
    """In a session, media for a control may still come."""
    kinds = {kind for kind, _ in args.media}
    for name in controls if once else ():
        if name in _SECONDS and "video" not in kinds:
            raise Misuse(f"{_flag(name)} applies to videos, and there are none")
        if not kinds:
            raise Misuse(f"{_flag(name)} applies to images and videos, and there are none")
    if args.fail_on_length and not once:
        raise Misuse("--fail-on-length needs a question")


def _options(args: argparse.Namespace) -> dict[str, object]:
    if args.max_tokens is not None and args.max_tokens < 1:
        raise Misuse("--max-tokens: must be at least 1")
    if args.temperature is not None and not (0 <= args.temperature < math.inf):
        raise Misuse("--temperature: must be a number from 0 on")
    return {
        name: value
        for name in ("max_tokens", "temperature")
        if (value := getattr(args, name)) is not None
    }


def _key(name: str | None) -> str:
    key = os.environ.get(name or _KEY, "").strip()
    if name and not key:
        raise Misuse(f"--api-key-env: {name} is not set")
    if not (key.isascii() and key.isprintable()):
        raise Misuse(f"{name or _KEY} holds what no key can: only ASCII is sent")
    return key or "none"


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _fail(message: str, code: int) -> int:
    tell(f"saccade chat: error: {message}")
    return code


class _Media(argparse.Action):
    """Images and videos in the order in which they were given."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        kind = self.option_strings[0].lstrip("-")
        namespace.media = [*namespace.media, (kind, values)]
