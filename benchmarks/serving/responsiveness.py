"""`saccade bench liveliness`: does the server answer `/health` at once while it decodes?"""

import argparse
import asyncio
import base64
import json
import multiprocessing
import os
import secrets
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import httpx

from saccade.benchmarks.common.arguments import positive
from saccade.benchmarks.common.figures import percentiles
from saccade.benchmarks.common.load import run_load
from saccade.benchmarks.common.report import conclude, say
from saccade.benchmarks.common.server import measured_server
from saccade.benchmarks.common.workloads import Request, draw_image, encode_jpeg
from saccade.media.controls import ImageControls
from saccade.media.planning.plan import PixelLimits, VisionGeometry, plan_image
from saccade.server.commands.child import ServerError

_EPILOG = """examples:
  saccade bench liveliness                            starts `saccade serve demo` and measures it
  saccade bench liveliness --url http://localhost:8000 --requests 64

So many requests arrive at once, each with another 12-megapixel JPEG that the model is shown small:
the work is the decoding. Beside them, from a process of its own, /health is asked over and over.
Unless all are answered with 200, and all pictures shown in as many tokens as planned, no figures
are printed.
The last line is RESULT health_p50_ms= health_p99_ms= health_max_ms= health_idle_p99_ms=.
"""
_SIDES = (4032, 3024)
_SHOWN = ImageControls(max_pixels=256 * 28 * 28)
_PAUSE = 0.005  # seconds from one answer of /health to the next question
_IDLE_SECONDS = 3.0


@dataclass(frozen=True)
class Pulse:
    """What `/health` did while it was watched: seconds of each answer, and what was not 200."""

    times: list[float]
    failures: list[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the benchmark's flags."""
    parser.description = "Asks /health while 12-megapixel JPEGs decode."
    parser.epilog = _EPILOG
    parser.add_argument("--url", help="the server (default: start one on the bundled checkpoint)")
    parser.add_argument("--requests", type=positive(int), default=32, help="at once (default: 32)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to this file")


def run(args: argparse.Namespace) -> int:
    """Run the benchmark; returns the exit code."""
    try:
        with measured_server(args.url) as url:
            return _measure(args, url)
    except (ServerError, httpx.HTTPError) as error:
        print(f"saccade bench: error: {error}", file=sys.stderr)
        return 1


def _measure(args: argparse.Namespace, url: str) -> int:
    key = os.environ.get("OPENAI_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    listed = httpx.get(f"{url}/v1/models", headers=headers).raise_for_status().json()
    requests = _requests(args.requests, listed["data"][0]["id"])
    # One by one before, so that what happens once at the beginning is not measured.
    asyncio.run(run_load(url, requests[:1], 1, 600, key))
    idle = _Watch(url)
    time.sleep(_IDLE_SECONDS)
    quiet = idle.stop()
    watch = _Watch(url)
    load = asyncio.run(run_load(url, requests[1:], args.requests, 600, key))
    busy = watch.stop()
    problems = [
        f"request {outcome.index}: {outcome.error} {outcome.detail}"
        for outcome in load.outcomes
        if outcome.error is not None
    ]
    shown = requests[0].visual_tokens
    problems += [
        f"request {outcome.index}: shown in {outcome.visual_tokens} tokens instead of {shown}"
        for outcome in load.outcomes
        if outcome.error is None and outcome.visual_tokens != shown
    ]
    problems += quiet.failures + busy.failures
    result = None if problems else _result(quiet.times, busy.times)
    told = f"{len(load.outcomes)} images in {load.seconds:.1f} s; /health {len(busy.times)} x"
    return conclude("liveliness", result, problems, told, args.json, {})


def _result(quiet: list[float], busy: list[float]) -> dict[str, float]:
    times = percentiles(busy)
    return {
        "health_p50_ms": times.p50,
        "health_p99_ms": times.p99,
        "health_max_ms": 1000 * max(busy),
        "health_idle_p99_ms": percentiles(quiet).p99,
    }


def _requests(count: int, model: str) -> list[Request]:
    """One more than ``count``, no two alike."""
    seed = secrets.randbelow(2**31)
    plan = plan_image(*_SIDES, _SHOWN, VisionGeometry(), PixelLimits())

    def make(index: int) -> Request:
        data = base64.b64encode(encode_jpeg(draw_image(*_SIDES, seed, index))).decode("ascii")
        part = {
            "type": "image_url",
            "image_url": {"url": f"data:image/jpeg;base64,{data}"},
            "max_pixels": _SHOWN.max_pixels,
        }
        body = {
            "model": model,
            "messages": [{"role": "user", "content": [part]}],
            "max_tokens": 1,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return Request(index, json.dumps(body).encode(), "image", plan.tokens)

    say(f"making {count + 1} images")
    with ThreadPoolExecutor() as pool:
        return list(pool.map(make, range(count + 1)))


class _Watch:
    """Asks `/health` from a process of its own until it is stopped."""

    def __init__(self, url: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._end, far = context.Pipe()
        self._process = context.Process(target=_ask, args=(url, far), daemon=True)
        self._process.start()
        self._end.recv()  # it has begun

    def stop(self) -> Pulse:
        """What it saw."""
        self._end.send(None)
        pulse: Pulse = self._end.recv()
        self._process.join()
        return pulse


def _ask(url: str, end: Connection) -> None:
    times, failures = [], []
    with httpx.Client(base_url=url, timeout=30) as client:
        client.get("/health")
        end.send(None)
        while not end.poll(_PAUSE):
            start = time.perf_counter()
            try:
                status = client.get("/health").status_code
            except httpx.HTTPError as error:
                failures.append(f"/health: {type(error).__name__}")
                continue
            times.append(time.perf_counter() - start)
            if status != 200:
                failures.append(f"/health answered {status}")
    end.send(Pulse(times, failures))
