"""`saccade bench serve`: put a server under load, check every answer, report what callers see."""

import argparse
import asyncio
import os
import secrets
import sys
from pathlib import Path
from typing import Any

import httpx

from saccade.benchmarks.common.arguments import natural, positive, sizes
from saccade.benchmarks.common.figures import Figures, error_counts, find_problems, summarise
from saccade.benchmarks.common.load import Load, Outcome, run_load
from saccade.benchmarks.common.report import problem_list, result_line, say, table, write_json
from saccade.benchmarks.common.server import measured_server
from saccade.benchmarks.common.stock import NoStock
from saccade.benchmarks.common.workloads import KINDS, Request, Workload
from saccade.benchmarks.serving.versus import VERSUS_SIZES, run_versus
from saccade.server.commands.child import ServerError

_EPILOG = """examples:
  saccade bench serve                              starts `saccade serve demo` and measures it
  saccade bench serve --url http://localhost:8000 --size 448x448,1920x1080 --requests 128
  saccade bench serve --url http://localhost:8000 --workload video --size 640x480 --seconds 10
  saccade bench serve --concurrency 32 --requests 512 --max-tokens 64 --json result.json
  saccade bench serve --versus stock --max-tokens 4

Every picture and clip is different, so caches do not help. Every answer is checked: 200, not
empty, a valid finish_reason, and as many prompt tokens as planned. If one is wrong, no figures are
printed. The last line is RESULT key=value ..., times in milliseconds.

--versus: both servers get the same requests, in rounds by turns. Answers may part only at tokens
that stock finds nearly as likely; they are listed, and no figures are printed if others differ. The
last line is, for each width, RESULT rps_ratio_448= (our requests per second over stock's)
ttft_p99_ratio_448= (our time to first token over stock's).

exit codes: 0 done, 1 failed or an answer was wrong, 2 wrong use, 130 interrupted
"""


class BenchError(Exception):
    """One line that says why there is no run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the benchmark's flags."""
    parser.description = "Puts a server under closed-loop load and reports what its callers see."
    parser.epilog = _EPILOG
    parser.add_argument("--url", help="the server (default: start one on the bundled checkpoint)")
    parser.add_argument(
        "--model",
        help="its name at the server (default: the first it lists); without --url what to serve "
        "(default: demo)",
    )
    parser.add_argument(
        "--versus",
        choices=("stock",),
        help="start vLLM without Saccade too, on the bundled checkpoint, and take turns",
    )
    parser.add_argument(
        "--dtype",
        choices=("bfloat16", "float32"),
        help="of both servers, with --versus (default: float32 on a CPU that multiplies bfloat16 "
        "in software, else bfloat16)",
    )
    parser.add_argument("--workload", choices=KINDS, default="image", help="default: image")
    parser.add_argument(
        "--size",
        type=sizes,
        metavar="WxH[,WxH]",
        help="of images or frames in pixels; several are taken in turn, with --versus one after "
        "the other (default: 448x448, with --versus 448x448,1024x768)",
    )
    parser.add_argument(
        "--seconds", type=positive(float), default=4.0, help="length of a video (default: 4)"
    )
    parser.add_argument(
        "--concurrency", type=positive(int), default=8, help="callers at a time (default: 8)"
    )
    parser.add_argument(
        "--requests", type=positive(int), default=64, help="to measure (default: 64)"
    )
    parser.add_argument(
        "--warm-up",
        type=positive(int),
        metavar="REQUESTS",
        help="to send before, not measured (default: as many as --concurrency)",
    )
    parser.add_argument(
        "--max-tokens", type=positive(int), default=16, help="of an answer (default: 16)"
    )
    parser.add_argument(
        "--ignore-eos",
        action="store_true",
        help="answers of exactly --max-tokens (an extension of vLLM's API)",
    )
    parser.add_argument(
        "--seed",
        type=natural,
        help="of the content (default: another one every time, so that a server that was measured "
        "before knows none of it)",
    )
    parser.add_argument(
        "--timeout",
        type=positive(float),
        default=600.0,
        metavar="SECONDS",
        help="without a byte, after which a request has failed; also for starting (default: 600)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to this file")


def run(args: argparse.Namespace) -> int:
    """Run the benchmark; returns the exit code."""
    if args.seed is None:
        args.seed = secrets.randbelow(2**31)
    if args.size is None:
        args.size = VERSUS_SIZES if args.versus else ((448, 448),)
    if args.workload == "video" and any(side % 2 for size in args.size for side in size):
        print("saccade bench: error: --size: videos need even sides", file=sys.stderr)
        return 2
    if args.versus and (args.url or args.model or args.warm_up):
        told = "--versus starts both servers and warms them up: no --url, --model, --warm-up"
        print(f"saccade bench: error: {told}", file=sys.stderr)
        return 2
    if args.dtype and not args.versus:
        print("saccade bench: error: --dtype is for --versus", file=sys.stderr)
        return 2
    try:
        if args.versus:
            return run_versus(args)
        with measured_server(args.url, args.model or "demo", start_seconds=args.timeout) as url:
            return _measure(args, url)
    except ServerError as error:
        if error.log_tail:
            print(f"the server's last lines:\n{error.log_tail}", file=sys.stderr)
        message = str(error)
    except (BenchError, NoStock) as error:
        message = str(error)
    print(f"saccade bench: error: {message}", file=sys.stderr)
    return 1


def _measure(args: argparse.Namespace, url: str) -> int:
    key = os.environ.get("OPENAI_API_KEY")
    about = _about(url, key, args.model if args.url is not None else None)
    workload = Workload(
        kind=args.workload,
        sizes=args.size,
        max_tokens=args.max_tokens,
        seed=args.seed,
        seconds=args.seconds,
        ignore_eos=args.ignore_eos,
    )
    warm_up = args.warm_up or args.concurrency
    say(f"making {warm_up + args.requests} requests")
    made = workload.requests(range(warm_up + args.requests), about["model"])

    def load(requests: list[Request], concurrency: int) -> Load:
        return asyncio.run(run_load(url, requests, concurrency, args.timeout, key))

    (plain,) = load([workload.text_only(about["model"])], 1).outcomes
    text_tokens = _text_tokens(plain)
    say(f"warming up: {warm_up} requests")
    load(made[:warm_up], args.concurrency)
    measured = made[warm_up:]
    say(f"measuring: {len(measured)} requests, {args.concurrency} at a time")
    result = load(measured, args.concurrency)

    problems = find_problems(measured, result.outcomes, text_tokens)
    errors = error_counts(result.outcomes)
    figures: Figures | None = None if problems else summarise(measured, result)
    if args.json is not None:
        write_json(args.json, _arguments(args, warm_up), figures, errors, problems, about)
    if figures is not None:
        print(table(figures))
    else:
        print(f"no figures: {len(problems)} of {len(measured)} answers are wrong")
        print(problem_list(problems))
    print(result_line(figures, len(measured), errors, problems))
    return 1 if problems else 0


def _about(url: str, key: str | None, model: str | None) -> dict[str, Any]:
    """What the server says about itself: the model's name and, where it has one, its version."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=10) as client:
            listed = client.get("/v1/models")
            listed.raise_for_status()
            names = [entry["id"] for entry in listed.json()["data"]]
            version = client.get("/version")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise BenchError(f"cannot talk to {url}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise BenchError(f"{url}/v1/models does not answer as OpenAI's API does") from error
    if not names or (model is not None and model not in names):
        raise BenchError(f"{url} does not serve {model or 'a model'}; it serves: {names}")
    about: dict[str, Any] = {"model": model or names[0]}
    if version.status_code == 200:
        about["version"] = version.text[:300]
    return about


def _text_tokens(plain: Outcome) -> int:
    if plain.error is not None or plain.prompt_tokens is None:
        reason = f"{plain.error} {plain.detail}" if plain.error else "no usage in the stream"
        raise BenchError(f"the server does not answer a plain request: {reason}")
    return plain.prompt_tokens


def _arguments(args: argparse.Namespace, warm_up: int) -> dict[str, object]:
    names = ("workload", "seconds", "concurrency", "requests", "max_tokens", "ignore_eos", "seed")
    shown = [f"{width}x{height}" for width, height in args.size]
    return {"size": shown, "warm_up": warm_up, **{name: getattr(args, name) for name in names}}
