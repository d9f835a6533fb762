"""`saccade bench overload`: twice what the server can do, and every answer checked."""

import argparse
import asyncio
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import uvloop
from aiohttp import ClientSession

from saccade.benchmarks.common.arguments import natural, positive
from saccade.benchmarks.common.figures import percentiles
from saccade.benchmarks.common.report import conclude, say
from saccade.benchmarks.common.server import measured_server
from saccade.benchmarks.serving.overload_clients import (
    Load,
    Server,
    Tally,
    ask,
    first_tokens_alone,
    forget_garbage,
    put,
    put_alone,
)
from saccade.benchmarks.serving.overload_requests import KINDS, Question, make_questions
from saccade.benchmarks.serving.server_watch import (
    Held,
    held,
    listening_process,
    metrics,
    unfinished,
)
from saccade.server.commands.child import LIGHT_FLAGS, ServerError

_EPILOG = """examples:
  saccade bench overload                              starts `saccade serve demo`, 3 minutes
  saccade bench overload --clients 20 --seconds 20 --questions 4
  saccade bench overload --url http://localhost:8000  a server of the bundled model

Text, 448x448 pictures, 12-megapixel pictures and clips by turns, first from --concurrency callers
to learn what the server can do, then open loop at twice that rate from at most --clients at once,
some of whom leave at a random moment. Text is asked from a process of its own, whose clock nothing
else holds up. Answers must be those of the idle server, or right; whatever is not answered must be
refused with 429. Afterwards nothing may be left of any request.
The last line is RESULT accepted= refused= left= unsent= wrong= lost= refusal_p99_ms=
text_ttft_p99_ms= text_ttft_idle_p99_ms= text_ttft_ratio= capacity= offered= memory_growth_mib=
memory_peak_mib= leaks=.
"""
_FLAGS = (
    *LIGHT_FLAGS,
    # Repeated questions must cost what new ones do.
    "--no-enable-prefix-caching",
    "--mm-processor-cache-gb=0",
    # Text must find a sequence that is free, and several texts in one step must not make it long.
    "--max-num-seqs=64",
    "--max-num-batched-tokens=256",
)
_IDLE_SECONDS = 60.0  # after the load, for everything to end
_TEXT_CLIENTS = 0.08  # of all: text is answered soon, so that few can ask a quarter of all
_IDLE_TEXTS = 200  # fewer have no 99th percentile
# Threads and descriptors that may come and go by themselves, e.g. a connection that idles.
_SLACK = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the benchmark's flags."""
    parser.description = "Puts twice the load on a server that it can carry; checks every answer."
    parser.epilog = _EPILOG
    parser.add_argument("--url", help="a server of the bundled model (default: start one)")
    parser.add_argument("--clients", type=positive(int), default=200, help="(default: 200)")
    parser.add_argument("--seconds", type=positive(float), default=180.0, help="(default: 180)")
    parser.add_argument(
        "--concurrency", type=positive(int), default=16, help="to learn the capacity (default: 16)"
    )
    parser.add_argument(
        "--questions", type=positive(int), default=40, help="of each kind (default: 40)"
    )
    parser.add_argument("--seed", type=natural, default=0, help="(default: 0)")
    parser.add_argument(
        "--server-flag",
        action="append",
        default=[],
        metavar="FLAG",
        help="of the started server, e.g. --server-flag=--scheduling-policy=fcfs",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to this file")


def run(args: argparse.Namespace) -> int:
    """Run the benchmark; returns the exit code."""
    try:
        with measured_server(args.url, flags=(*_FLAGS, *args.server_flag)) as url:
            return _measure(args, url)
    except (ServerError, httpx.HTTPError) as error:
        print(f"saccade bench: error: {error}", file=sys.stderr)
        return 1


def _measure(args: argparse.Namespace, url: str) -> int:
    key = os.environ.get("OPENAI_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    listed = httpx.get(f"{url}/v1/models", headers=headers).raise_for_status().json()
    say("making questions")
    questions = make_questions(listed["data"][0]["id"], args.questions, args.seed)
    server = Server(url, key)
    pid = listening_process(httpx.URL(url).port or 80)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=forget_garbage) as texts:
        return uvloop.run(_run(args, server, questions, pid, texts))


async def _run(
    args: argparse.Namespace,
    server: Server,
    questions: list[Question],
    pid: int | None,
    texts: Executor,
) -> int:
    url = server.url
    in_texts = partial(asyncio.get_running_loop().run_in_executor, texts)
    forget_garbage()
    async with server.client(args.clients) as client:
        say("asking each question alone")
        known = await _learn(client, questions)
        if {question.kind for question in known} != set(KINDS):
            raise ServerError("the server answers no question of some kind: is it the demo model?")
        text, media = _shares(known)
        idle = await in_texts(first_tokens_alone, server, text, _IDLE_TEXTS)
        say("measuring what the server can do")
        capacity = await _capacity(client, known, args.concurrency, min(20.0, args.seconds))
    before = held(pid) if pid else None
    tasks_before = metrics(url)["saccade_tasks"]
    say(f"{capacity:.1f} requests/s; now {2 * capacity:.1f} for {args.seconds:.0f} s")
    memory: list[int] = []
    watch = asyncio.create_task(_watch(pid, memory))
    text_clients = round(_TEXT_CLIENTS * args.clients)

    def load(part: list[Question], clients: int, seed: str) -> Load:
        rate = 2 * capacity * len(part) / len(known)
        return Load(part, rate, max(1, clients), args.seconds, seed)

    tallies = await asyncio.gather(
        in_texts(put_alone, server, load(text, text_clients, f"text {args.seed}")),
        put(server, load(media, args.clients - text_clients, f"media {args.seed}")),
    )
    tally = sum(tallies, Tally())
    watch.cancel()
    left = await asyncio.to_thread(unfinished, url, _IDLE_SECONDS)
    after = held(pid) if pid else None
    leaks = _leaks(before, after)
    if (tasks := metrics(url)["saccade_tasks"] - tasks_before) > _SLACK:
        leaks["tasks"] = int(tasks)
    problems = tally.wrong + tally.lost
    problems += [f"{name} stays at {value:g}" for name, value in left.items()]
    problems += [f"{count} more {name} than before" for name, count in leaks.items()]
    if pid is not None and (after is None or before is None or after.processes < before.processes):
        problems.append("a process of the server has ended")
    result = _result(tally, idle, capacity)
    if before and after:
        result["memory_growth_mib"] = (after.memory - before.memory) / 2**20
        result["memory_peak_mib"] = max(memory, default=0) / 2**20
    result["leaks"] = len(left) + len(leaks)
    return conclude(
        "overload", None if problems else result, problems, _table(tally), args.json, {}
    )


def _shares(questions: Sequence[Question]) -> tuple[list[Question], list[Question]]:
    """Text, and the others."""
    text = [question for question in questions if question.kind == "text"]
    return text, [question for question in questions if question.kind != "text"]


async def _learn(client: ClientSession, questions: Sequence[Question]) -> list[Question]:
    known = []
    for question in questions:
        outcome = await ask(client, question)
        if outcome.error is not None or outcome.prompt_tokens is None:
            raise ServerError(f"an idle server answered {outcome.error} {outcome.detail}")
        if (learnt := question.known(outcome.text, outcome.prompt_tokens)) is not None:
            known.append(learnt)
    say(f"{len(known)} of {len(questions)} answers are right")
    return known


async def _capacity(
    client: ClientSession, questions: Sequence[Question], callers: int, seconds: float
) -> float:
    """Requests a second that so many callers get answered."""
    done = 0
    end = time.perf_counter() + seconds

    async def caller(number: int) -> None:
        nonlocal done
        while time.perf_counter() < end:
            outcome = await ask(client, questions[number % len(questions)])
            done += outcome.error is None
            number += callers

    await asyncio.gather(*map(caller, range(callers)))
    return done / seconds


async def _watch(pid: int | None, memory: list[int]) -> None:
    """Notes the server's memory once a second, until it is cancelled."""
    while pid is not None:
        memory.append((await asyncio.to_thread(held, pid)).memory)
        await asyncio.sleep(1)


def _leaks(before: Held | None, after: Held | None) -> dict[str, int]:
    if before is None or after is None:
        return {}
    more = {
        "threads": after.threads - before.threads,
        "descriptors": after.descriptors - before.descriptors,
    }
    return {name: count for name, count in more.items() if count > _SLACK}


def _result(tally: Tally, idle: Sequence[float], capacity: float) -> dict[str, float]:
    loaded = percentiles(tally.first_tokens["text"] or [0.0]).p99
    unloaded = percentiles(idle).p99
    return {
        "accepted": sum(tally.accepted.values()),
        "refused": len(tally.refusals),
        "left": tally.left,
        "unsent": tally.unsent,
        "wrong": len(tally.wrong),
        "lost": len(tally.lost),
        "refusal_p99_ms": percentiles(tally.refusals or [0.0]).p99,
        "text_ttft_p99_ms": loaded,
        "text_ttft_idle_p99_ms": unloaded,
        "text_ttft_ratio": loaded / unloaded,
        "capacity": capacity,
        "offered": 2 * capacity,
    }


def _table(tally: Tally) -> str:
    lines = [f"{'accepted':<10}{'':>8}{'first token p50':>18}{'p99 (ms)':>12}"]
    for kind in KINDS:
        times = percentiles(tally.first_tokens[kind] or [0.0])
        lines.append(f"{kind:<10}{tally.accepted[kind]:>8}{times.p50:>18.0f}{times.p99:>12.0f}")
    if tally.refusals:
        times = percentiles(tally.refusals)
        lines.append(f"{'refused':<10}{len(tally.refusals):>8}{times.p50:>18.0f}{times.p99:>12.0f}")
    return "\n".join(lines)
