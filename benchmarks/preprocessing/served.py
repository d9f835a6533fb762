"""`saccade bench host-path --versus rust`: served front ends before an idle engine.

Beside Saccade's: vLLM's in Python, with one API process and with two, and vLLM's in Rust.
"""

import argparse
import asyncio
import json
import math
import os
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from saccade.benchmarks.common.load import run_load
from saccade.benchmarks.common.report import conclude, say
from saccade.benchmarks.common.rust import RustServer, rust_frontend
from saccade.benchmarks.common.stock import StockServer
from saccade.benchmarks.common.workloads import Request, Workload
from saccade.benchmarks.preprocessing.idle_worker import DIGITS, PIXELS, WORKER
from saccade.benchmarks.preprocessing.images import LARGE, MIDDLE, SMALL, Case
from saccade.benchmarks.serving.server_watch import api_seconds
from saccade.server.checkpoint.bundled import bundled_checkpoint
from saccade.server.commands.child import ServerProcess

CASES = (SMALL, MIDDLE, LARGE)
CLIENTS = (1, 16)
_FLAGS = (
    *("--enforce-eager", "--max-model-len=32768", "--max-num-batched-tokens=65536"),
    *("--max-num-seqs=16", "--dtype=float32", "--no-async-scheduling", f"--worker-cls={WORKER}"),
)
_RUST_NAME = "Qwen2.5-VL"  # by which it knows the model
# Its JPEG decoder and its resizing round otherwise than libjpeg-turbo and Pillow.
_MOST_APART = 1.0  # levels of 255, on average
_TIMEOUT = 600.0  # seconds
_OURS, _STOCK, _STOCK_2, _RUST = "ours", "stock", "stock, 2 processes", "rust"


@dataclass(frozen=True)
class Figures:
    """Medians of the rounds, in seconds an image."""

    wall: float
    cpu: float  # of the front end's processes


_NONE = Figures(math.nan, math.nan)
Measured = dict[tuple[Case, int, int], dict[str, Figures]]  # by case, cores, clients: by server


def run_served(args: argparse.Namespace) -> int:
    """Run the benchmark; returns the exit code.

    Raises:
        NoRust: there is no Rust front end to be had.
        NoStock: stock vLLM cannot run here.
        ServerError: a server did not start, or died.
    """
    binary = args.rust or rust_frontend()
    cores = sorted(os.sched_getaffinity(0))
    measured: Measured = {}
    problems: list[str] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        for few in (len(cores), 1):
            with _servers(Path(place), binary, cores[:few]) as servers:
                if few == len(cores):
                    found, notes = _check(servers, Path(place), args)
                    problems += found
                for case in CASES:
                    # No image is asked about twice, but by `_check`: some servers keep them.
                    places = iter(range(args.requests, 2**31))
                    for clients in CLIENTS:
                        say(f"{case.name}, {few} cores, {clients} clients")
                        rounds = (
                            [_body(case, args.seed, next(places), 1) for _ in range(args.requests)]
                            for _ in range(args.rounds + 1)
                        )
                        key = (case, few, clients)
                        measured[key], failed = _measure(servers, rounds, clients)
                        for which, why in failed.items():
                            told = f"{which}, {case.name}, {few} cores, {clients} clients: {why}"
                            (problems if which == _OURS else notes).append(told)
    result = None if problems else _result(measured, len(cores))
    table = "\n".join((*notes, _table(measured)))
    arguments = {"requests": args.requests, "rounds": args.rounds, "seed": args.seed}
    return conclude(
        "host-path --versus rust", result, problems, table, args.json, {"arguments": arguments}
    )


@contextmanager
def _servers(
    place: Path, binary: Path, cores: Sequence[int]
) -> Iterator[Mapping[str, ServerProcess]]:
    """All four, ready, on these cores."""
    named = place / _RUST_NAME
    if not named.exists():
        named.symlink_to(bundled_checkpoint())
    stock = str(bundled_checkpoint())
    servers = {
        _OURS: ServerProcess("demo", _FLAGS),
        _STOCK: StockServer(stock, _FLAGS),
        _STOCK_2: StockServer(stock, (*_FLAGS, "--api-server-count=2")),
        _RUST: RustServer(binary, place, str(named), _FLAGS),
    }
    before = os.sched_getaffinity(0)
    os.environ[PIXELS] = str(place)
    try:
        with ExitStack() as stack:
            os.sched_setaffinity(0, cores)
            for name, server in servers.items():
                say(f"starting on {len(cores)} cores: {name}")
                stack.enter_context(server)
                server.wait_ready(_TIMEOUT)
            os.sched_setaffinity(0, before)
            yield servers
    finally:
        os.sched_setaffinity(0, before)
        del os.environ[PIXELS]


def _body(case: Case, seed: int, index: int, tokens: int) -> bytes:
    more = {"stream": True, "stream_options": {"include_usage": True}, "temperature": 0}
    asked = json.loads(case.body(seed, index))
    return json.dumps({**asked, **more, "max_tokens": tokens, "min_tokens": tokens}).encode()


def _ask(
    server: ServerProcess, bodies: list[bytes], clients: int
) -> tuple[float, list[str], list[str]]:
    requests = [Request(index, body, "image", 0) for index, body in enumerate(bodies)]
    load = asyncio.run(run_load(server.url, requests, clients, _TIMEOUT))
    problems = [f"request {o.index}: {o.error} {o.detail}" for o in load.outcomes if o.error]
    return load.seconds, problems, [outcome.text for outcome in load.outcomes]


def _check(
    servers: Mapping[str, ServerProcess], place: Path, args: argparse.Namespace
) -> tuple[list[str], list[str]]:
    """Whether the engine got the same pixels of all; and what is to be said of Rust's."""
    problems: list[str] = []
    notes: list[str] = []
    for case in CASES:
        bodies = [_body(case, args.seed, index, DIGITS) for index in range(args.requests)]
        names: dict[str, list[str]] = {}
        for which, server in servers.items():
            _, found, names[which] = _ask(server, bodies, 1)
            problems += [f"{which}, {case.name}, {problem}" for problem in found]
        if problems:
            return problems, notes
        apart, unequal, most = [], [], 0
        for index, ours in enumerate(names[_OURS]):
            pixels = np.load(place / f"{ours}.npy").astype(np.int16)
            for which in (_STOCK, _STOCK_2):
                if names[which][index] != ours:
                    problems.append(f"{case.name}, image {index}: {which} has other pixels")
            theirs = np.load(place / f"{names[_RUST][index]}.npy")
            if theirs.shape != pixels.shape:
                problems.append(f"{case.name}, image {index}: rust has {len(theirs)} patches")
                continue
            differences = np.abs(theirs - pixels)
            apart.append(differences.mean())
            unequal.append((differences > 0).mean())
            most = max(most, int(differences.max()))
        if apart and max(apart) > _MOST_APART:
            problems.append(f"{case.name}: rust's pixels are {max(apart):.1f} levels off")
        elif apart:
            notes.append(
                f"{case.name}: {statistics.mean(unequal):.1%} of rust's values are not Pillow's, "
                f"by {most} levels at most"
            )
    notes += [f"a video, {which}: {_video(server)}" for which, server in servers.items()]
    return problems, notes


def _video(server: ServerProcess) -> str:
    """What the server says to a video."""
    body = Workload("video", ((224, 168),), max_tokens=1).request(0, "demo").body
    answer = httpx.post(
        f"{server.url}/v1/chat/completions",
        content=body,
        headers={"Content-Type": "application/json"},
        timeout=_TIMEOUT,
    )
    if answer.status_code == 200:
        return "answered"
    return f"{answer.status_code}: {answer.json()['error']['message']}"


def _measure(
    servers: Mapping[str, ServerProcess], rounds: Iterable[list[bytes]], clients: int
) -> tuple[dict[str, Figures], dict[str, str]]:
    """Figures of all servers, and why some have none. The first round, in which buffers are new, is
    not counted."""
    found: dict[str, list[tuple[float, float]]] = {which: [] for which in servers}
    failed: dict[str, str] = {}
    for number, bodies in enumerate(rounds):
        for which in list(servers)[:: 1 if number % 2 else -1]:
            server = servers[which]
            if which in failed:
                continue
            if not server.alive():
                failed[which] = f"it has died: {server.log_tail(1)}"
                continue
            cpu = api_seconds(server.pid)
            wall, wrong, _ = _ask(server, bodies, clients)
            if wrong:
                failed[which] = wrong[0]
            elif number:
                cpu = api_seconds(server.pid) - cpu
                found[which].append((wall / len(bodies), cpu / len(bodies)))
    return {
        which: _NONE
        if which in failed
        else Figures(*(statistics.median(column) for column in zip(*of, strict=True)))
        for which, of in found.items()
    }, failed


def _result(measured: Measured, cores: int) -> dict[str, float]:
    result = {}
    for case, name in ((MIDDLE, "1080p"), (LARGE, "12mp")):
        many, one = (measured[case, cores, clients] for clients in reversed(CLIENTS))
        result[f"rate_rust_{name}"] = many[_RUST].wall / many[_OURS].wall
        result[f"cpu_rust_{name}"] = many[_OURS].cpu / many[_RUST].cpu
        result[f"latency_rust_{name}"] = one[_OURS].wall / one[_RUST].wall
        best = np.nanmin([many[_STOCK].wall, many[_STOCK_2].wall])
        result[f"rate_python_{name}"] = best / many[_OURS].wall
    return result


def _table(measured: Measured) -> str:
    """For a terminal."""
    lines = [f"{'':<20}{'cores':>6}{'clients':>9}{'CPU ms':>10}{'wall ms':>10}{'images/s':>10}"]
    for (case, cores, clients), by_server in measured.items():
        lines.append(case.name)
        lines += [
            f"  {which:<18}{cores:>6}{clients:>9}{1e3 * one.cpu:>10.1f}{1e3 * one.wall:>10.1f}"
            f"{1 / one.wall:>10.1f}"
            for which, one in by_server.items()
        ]
    return "\n".join(lines)
