"""`saccade demo`: a real server, a real client, images and a video with questions about them."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
from openai.types import CompletionUsage
from PIL import Image, ImageDraw

from saccade.demo.questions import GROUNDING, QUESTIONS, SHAPES, Question
from saccade.demo.world.answers import boxes_of
from saccade.server.commands.child import LIGHT_FLAGS, ServerError, ServerProcess

_MAX_TOKENS = 64

_EPILOG = """examples:
  saccade demo                                     the bundled checkpoint, on a GPU or a CPU
  saccade demo --model Qwen/Qwen2.5-VL-3B-Instruct
  saccade demo --url http://localhost:8000         a server that already runs
  saccade demo --boxes found.png                   where to draw the box that was asked for

exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted
"""


class DemoError(Exception):
    """One line that says what went wrong."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's flags."""
    parser.description = (
        "Starts the server on the bundled checkpoint (no download), asks it about a bundled "
        "photograph and a bundled video over HTTP, prints the streamed answers, and stops it."
    )
    parser.epilog = _EPILOG
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--url", help="use the server at this URL instead of starting one")
    where.add_argument(
        "--model", default="demo", help="what the started server serves (default: demo)"
    )
    parser.add_argument(
        "--boxes",
        type=Path,
        default=Path("saccade-demo.png"),
        metavar="PNG",
        help="where to draw the box that was asked for (default: saccade-demo.png)",
    )
    parser.add_argument(
        "--start-timeout",
        type=float,
        default=600,
        metavar="SECONDS",
        help="how long the started server may take to load (default: 600)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo; returns the exit code."""
    try:
        with _server(args) as url:
            _ask_everything(url, args.boxes)
    except ServerError as error:
        if error.log_tail:
            print(f"\nthe server's last lines:\n{error.log_tail}", file=sys.stderr)
        return _fail(str(error))
    except DemoError as error:
        return _fail(str(error))
    except openai.APIError as error:
        return _fail(f"a request to {args.url} failed: {error}")
    return 0


def _fail(message: str) -> int:
    print(f"saccade demo: error: {message}", file=sys.stderr)
    return 1


@contextmanager
def _server(args: argparse.Namespace) -> Iterator[str]:
    """The URL of a server that is ready; one that was started here is stopped at the end."""
    if args.url is not None:
        yield args.url.rstrip("/").removesuffix("/v1")
        return
    with ServerProcess(args.model, LIGHT_FLAGS) as server:
        print(f"starting: saccade serve {args.model} ", end="", flush=True)
        server.wait_ready(args.start_timeout, lambda: print(".", end="", flush=True))
        print(f" ready at {server.url}")
        try:
            yield server.url
        except openai.APIError as error:
            raise ServerError(f"a request failed: {error}", server.log_tail()) from error
        print("stopping the server", flush=True)
        code = server.stop()
    if code != 0:
        raise DemoError(f"the server ended with exit code {code} after SIGTERM, not 0")


def _ask_everything(url: str, drawing: Path) -> None:
    key = os.environ.get("OPENAI_API_KEY") or "none"
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=600) as client:
        models = client.models.list().data
        if not models:
            raise DemoError(f"the server at {url} serves no model")
        for question in QUESTIONS:
            print("", *question.told(), sep="\n")
            answer, usage = _ask(client, models[0].id, question)
            print(f"[right: {question.answer}]\n{_token_counts(usage)}")
            if question is GROUNDING and (boxes := boxes_of(answer)):
                draw_boxes(SHAPES.file, boxes, drawing)
                print(f"[drawn: {drawing}]")


def draw_boxes(picture: Path, boxes: Sequence[Sequence[float]], drawing: Path) -> None:
    """Write the image with these boxes (x1, y1, x2, y2), in its own pixels, as a PNG."""
    with Image.open(picture) as image:
        drawn = image.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    for x1, y1, x2, y2 in boxes:
        pen.rectangle((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), outline="red", width=2)
    try:
        drawn.save(drawing, "PNG")
    except OSError as error:
        raise DemoError(f"cannot write --boxes {drawing}: {error.strerror or error}") from error


def _ask(client: openai.OpenAI, model: str, question: Question) -> tuple[str, CompletionUsage]:
    """Print one answer as it streams in; returns it and what it cost."""
    messages: Any = question.messages()
    stream: Any = client.chat.completions.create(
        model=model,
        messages=messages,
        max_tokens=_MAX_TOKENS,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
        **question.fields,
    )
    usage: CompletionUsage | None = None
    finish_reason: str | None = None
    answer = ""
    with stream:
        for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                piece = (choice.delta.content or "") + _call(choice.delta)
                answer += piece
                print(printable(piece), end="", flush=True)
                finish_reason = choice.finish_reason or finish_reason
    print()
    if finish_reason not in ("stop", "length", "tool_calls"):
        raise DemoError(f"the answer to {question.text!r} ended with {finish_reason!r}")
    if usage is None or not usage.completion_tokens:
        raise DemoError(f"the answer to {question.text!r} is empty")
    return answer, usage


def _call(delta: Any) -> str:
    """A piece of a call: its name and a space, then its arguments."""
    return "".join(
        (f"{call.function.name} " if call.function.name else "") + (call.function.arguments or "")
        for call in delta.tool_calls or ()
    )


def printable(text: str) -> str:
    """The text without what could disturb a terminal: a model may say anything."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "·" for letter in text)


def _token_counts(usage: CompletionUsage) -> str:
    details = usage.prompt_tokens_details
    visual = {
        kind: count
        for kind in ("image", "video")
        if (count := getattr(details, f"{kind}_tokens", None))
    }
    parts = [f"{count} {kind}" for kind, count in visual.items()]
    if visual:
        parts.append(f"{usage.prompt_tokens - sum(visual.values())} text")
    kinds = f" ({', '.join(parts)})" if parts else ""
    return f"[{usage.prompt_tokens} prompt tokens{kinds}, {usage.completion_tokens} answer tokens]"
