"""`saccade batch`: sends a file of requests, or a question about each image of a folder."""

import argparse
import asyncio
import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from saccade.server.commands.batch.client import Client
from saccade.server.commands.batch.errors import BatchStopped, BatchUsageError
from saccade.server.commands.batch.images import ImageFolder, chat_body, read_schema
from saccade.server.commands.batch.journal import Journal
from saccade.server.commands.batch.pace import Pace
from saccade.server.commands.batch.progress import Progress
from saccade.server.commands.batch.requests import BatchInput, JSONLinesInput, check_input
from saccade.server.commands.batch.sender import RetryPolicy, Sender
from saccade.server.commands.batch.tables import check_format, write_table

_EPILOG = """examples:
  saccade batch input.jsonl --output answers.jsonl
  saccade batch input.jsonl --url https://host/v1 --api-key-env HOST_KEY --output answers.csv \\
      --format csv
  saccade batch --images photos --recursive --prompt "What is shown?" --output answers.jsonl
  saccade batch --images bills --prompt "Read the bill." --schema bill.json --format csv \\
      --output bills.csv

input.jsonl is a batch file as OpenAI's, the answers are as there. The same command again goes on
where it was stopped, by whatever; --retry-failed also sends again what failed.

exit codes: 0 all answered, 1 some failed or the server is gone, 2 wrong use, 130 interrupted
"""
_KEY = "OPENAI_API_KEY"
_GO_ON = "the same command again goes on from here"
_OF_IMAGES = ("prompt", "schema", "model", "max_tokens", "recursive", "file_urls")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's flags."""
    parser.description = (
        "Sends many requests to an OpenAI-compatible server, as fast as it takes them."
    )
    parser.epilog = _EPILOG
    parser.add_argument("input", nargs="?", type=Path, metavar="INPUT", help="batch file, JSONL")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="where the answers go"
    )
    parser.add_argument(
        "--format",
        choices=("jsonl", "csv", "parquet"),
        default="jsonl",
        help="of the answers; parquet needs the extra batch (default: jsonl)",
    )
    parser.add_argument("--url", default="http://localhost:8000", help="with or without /v1")
    parser.add_argument(
        "--api-key-env", metavar="NAME", help=f"variable that holds the key (default: {_KEY})"
    )
    parser.add_argument(
        "--max-concurrency",
        type=_at_least(1),
        default=256,
        metavar="N",
        help="requests under way at once, at most (default: 256)",
    )
    parser.add_argument(
        "--retries",
        type=_at_least(0),
        default=8,
        metavar="N",
        help="after a failed connection or a 5xx (default: 8)",
    )
    parser.add_argument(
        "--retry-delay",
        type=_seconds,
        default=0.5,
        metavar="S",
        help="seconds before the first of them, doubled each time up to 30 (default: 0.5)",
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=600.0, metavar="S", help="of a request (default: 600)"
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="send those again that failed before"
    )
    images = parser.add_argument_group("a folder of images in place of INPUT")
    images.add_argument("--images", type=Path, metavar="DIR", help="one chat request an image")
    images.add_argument("--prompt", metavar="TEXT", help="what is asked about each")
    images.add_argument(
        "--schema", type=Path, metavar="FILE", help="JSON schema of the answers, and their columns"
    )
    images.add_argument("--model", metavar="NAME", help="default: the first that the server names")
    images.add_argument("--max-tokens", type=_at_least(1), metavar="N", help="of each answer")
    images.add_argument("--recursive", action="store_true", help="folders in it, too")
    images.add_argument(
        "--file-urls", action="store_true", help="send paths: the server reads the files itself"
    )


def run(args: argparse.Namespace) -> int:
    """Sends what is not finished yet. Returns the exit code."""
    try:
        return _run(args)
    except BatchUsageError as error:
        print(f"saccade batch: error: {error}", file=sys.stderr)
        return 2
    except BatchStopped as error:
        print(f"saccade batch: error: {error}; {_GO_ON}", file=sys.stderr)
        return 1


def _run(args: argparse.Namespace) -> int:
    _check_flags(args)
    schema = read_schema(args.schema) if args.schema else None
    client = Client(args.url, _api_key(args.api_key_env), args.timeout)
    requests: BatchInput
    if args.images:
        model = args.model or asyncio.run(client.first_model())
        body = chat_body(model, args.prompt, schema, args.max_tokens)
        requests = ImageFolder(
            args.images, body, recursive=args.recursive, file_urls=args.file_urls
        )
    else:
        requests = JSONLinesInput(args.input)
    keys = check_input(requests)
    total = len(keys)
    with Journal(_journal_path(args), keys, retry_failed=args.retry_failed) as journal:
        del keys
        if len(journal.finished) < total:
            asyncio.run(_send(args, client, requests, journal, total))
        finished = len(journal.finished)
        if finished < total:
            print(
                f"saccade batch: interrupted, {finished:,} of {total:,} are finished; {_GO_ON}",
                file=sys.stderr,
            )
            return 130
        if args.format != "jsonl":
            try:
                write_table(args.output, args.format, requests, journal, schema)
            except OSError as error:
                raise BatchStopped(f"{args.output}: {error.strerror}") from None
        failed = f", {journal.failed:,} of them failed" if journal.failed else ""
        print(f"{finished:,} requests are finished{failed}: {args.output}", file=sys.stderr)
        return 1 if journal.failed else 0


async def _send(
    args: argparse.Namespace, client: Client, requests: BatchInput, journal: Journal, total: int
) -> None:
    """Sends what is left, or until Ctrl-C."""
    retries = RetryPolicy(args.retries, args.retry_delay)
    left = (request for request in requests if request.key not in journal.finished)
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    async with client:
        with Progress(total, len(journal.finished)) as progress:
            sender = Sender(client, journal, Pace(args.max_concurrency), retries, progress)

            def interrupt() -> None:
                if sender.stopping:
                    task.cancel()
                elif under_way := sender.stop():
                    progress.say(f"waiting for {under_way} under way; Ctrl-C again drops them")

            loop.add_signal_handler(signal.SIGINT, interrupt)
            try:
                await sender.send(left)
            except asyncio.CancelledError:
                if not sender.stopping:
                    raise
                task.uncancel()
            finally:
                loop.remove_signal_handler(signal.SIGINT)


def _check_flags(args: argparse.Namespace) -> None:
    if (args.input is None) == (args.images is None):
        raise BatchUsageError("name either INPUT or --images")
    if args.images is None:
        for name in _OF_IMAGES:
            if getattr(args, name):
                raise BatchUsageError(f"--{name.replace('_', '-')} goes with --images")
    elif not args.prompt:
        raise BatchUsageError("--images needs --prompt")
    parts = urlsplit(args.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BatchUsageError(f"--url: {args.url!r} is not like http://localhost:8000")
    check_format(args.format)


def _journal_path(args: argparse.Namespace) -> Path:
    output: Path = args.output
    return output if args.format == "jsonl" else output.with_name(f"{output.name}.jsonl")


def _api_key(name: str | None) -> str | None:
    key = os.environ.get(name or _KEY)
    if name and not key:
        raise BatchUsageError(f"--api-key-env: {name} is not set")
    return key


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}")
        return value

    return number


def _seconds(text: str) -> float:
    value = float(text)
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError("must be seconds, more than 0")
    return value
