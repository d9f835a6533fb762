"""`saccade bench serve --versus stock`: Saccade and stock vLLM under the same load, by turns."""

import argparse
import asyncio
import statistics
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from saccade.benchmarks.common.arguments import default_dtype
from saccade.benchmarks.common.figures import Figures, find_problems, summarise
from saccade.benchmarks.common.load import Load, run_load
from saccade.benchmarks.common.near_ties import is_near_tie
from saccade.benchmarks.common.report import conclude, say
from saccade.benchmarks.common.stock import SAMPLING_FLAG, StockServer
from saccade.benchmarks.common.workloads import Request, Workload
from saccade.server.checkpoint.bundled import bundled_checkpoint
from saccade.server.commands.child import LIGHT_FLAGS, ServerProcess

VERSUS_SIZES = ((448, 448), (1024, 768))
_ROUNDS = 4  # of each size, which share its requests
_MODEL = "demo"


@dataclass(frozen=True)
class Round:
    """What one round of one size said."""

    figures: Mapping[str, Figures]  # by server
    near_ties: list[str]  # answers that differ where two tokens are as likely


def run_versus(args: argparse.Namespace) -> int:
    """Run the benchmark; returns the exit code.

    Raises:
        ServerError: a server did not start, or died.
        NoStock: stock vLLM cannot run here.
    """
    checkpoint = str(bundled_checkpoint())
    args.dtype = args.dtype or default_dtype()
    flags = (*LIGHT_FLAGS, f"--dtype={args.dtype}")
    servers = {
        "ours": ServerProcess(_MODEL, flags),
        "stock": StockServer(checkpoint, (*flags, SAMPLING_FLAG)),
    }
    with ExitStack() as stack:
        for name, server in servers.items():
            say(f"starting: {name}")
            stack.enter_context(server)
            server.wait_ready(args.timeout)
        return compare(args, {name: server.url for name, server in servers.items()})


def compare(args: argparse.Namespace, urls: Mapping[str, str]) -> int:
    """Put both servers under load; returns the exit code.

    Args:
        urls: of ``ours`` and ``stock``.
    """
    rounds, problems = _measure(args, urls)
    every = [one for of_size in rounds.values() for one in of_size]
    asked = sum(one.figures["ours"].requests for one in every)
    near_ties = [text for one in every for text in one.near_ties]
    result = None if problems else _result(rounds)
    shown = "" if result is None else _table(rounds)
    equal = f"{asked - len(near_ties)} of {asked} answers are equal, the others near ties"
    flat = {
        f"{width}x{height}": [
            {name: figures.flat() for name, figures in one.figures.items()} for one in of_size
        ]
        for (width, height), of_size in rounds.items()
    }
    more = {"rounds": flat if result else None, "near_ties": near_ties}
    table = "\n".join((f"both in {args.dtype}", equal, *near_ties, shown))
    return conclude("serve --versus stock", result, problems, table, args.json, more)


Rounds = dict[tuple[int, int], list[Round]]


def _measure(args: argparse.Namespace, urls: Mapping[str, str]) -> tuple[Rounds, list[str]]:
    rounds: Rounds = {}
    problems: list[str] = []
    for size in args.size:
        workload = Workload(
            kind=args.workload,
            sizes=(size,),
            max_tokens=args.max_tokens,
            seed=args.seed,
            seconds=args.seconds,
            ignore_eos=args.ignore_eos,
        )
        text_tokens = {}
        for name, url in urls.items():
            (plain,) = _load(args, url, [workload.text_only(_MODEL)], 1).outcomes
            text_tokens[name] = plain.prompt_tokens or 0
        rounds[size] = []
        count = max(args.concurrency, args.requests // _ROUNDS)
        for number in range(_ROUNDS + 1):
            made = workload.requests(range(number * count, (number + 1) * count), _MODEL)
            say(f"{size[0]}x{size[1]}, round {number}")
            names = list(urls)[:: 1 if number % 2 else -1]
            loads = {name: _load(args, urls[name], made, args.concurrency) for name in names}
            if number == 0:  # warms up
                continue
            found = [
                f"{name}, {problem}"
                for name, load in loads.items()
                for problem in find_problems(made, load.outcomes, text_tokens[name])
            ]
            near_ties, differing = _compare_answers(args, urls, made, loads)
            problems += found or differing
            if not found:
                figures = {name: summarise(made, load) for name, load in loads.items()}
                rounds[size].append(Round(figures, near_ties))
    return rounds, problems


def _load(args: argparse.Namespace, url: str, requests: list[Request], concurrency: int) -> Load:
    return asyncio.run(run_load(url, requests, concurrency, args.timeout))


def _compare_answers(
    args: argparse.Namespace,
    urls: Mapping[str, str],
    requests: list[Request],
    loads: Mapping[str, Load],
) -> tuple[list[str], list[str]]:
    """The answers that part at near ties, and those that differ for no such reason."""
    near_ties: list[str] = []
    differing: list[str] = []
    for request, ours, stock in zip(
        requests, loads["ours"].outcomes, loads["stock"].outcomes, strict=True
    ):
        if ours.error or stock.error or ours.text == stock.text:
            continue
        text = f"request {ours.index}: {ours.text!r}, stock {stock.text!r}"
        tied = is_near_tie(urls["stock"], request.body, ours.text, args.timeout)
        (near_ties if tied else differing).append(text)
    return near_ties, differing


def _result(rounds: Rounds) -> dict[str, float]:
    """Medians over the rounds of ours over stock's."""
    result = {}
    for (width, _), of_size in rounds.items():
        pairs = [(one.figures["ours"], one.figures["stock"]) for one in of_size]
        result[f"rps_ratio_{width}"] = statistics.median(
            ours.requests_per_second / stock.requests_per_second for ours, stock in pairs
        )
        result[f"ttft_p99_ratio_{width}"] = statistics.median(
            ours.ttft_ms.p99 / stock.ttft_ms.p99 for ours, stock in pairs
        )
    return result


def _table(rounds: Rounds) -> str:
    """For a terminal."""
    lines = [f"{'':<20}{'requests/s':>12}{'TTFT p50 ms':>14}{'TTFT p99 ms':>14}"]
    for (width, height), of_size in rounds.items():
        for name in of_size[0].figures:
            figures = [one.figures[name] for one in of_size]
            rate = statistics.median(one.requests_per_second for one in figures)
            p50 = statistics.median(one.ttft_ms.p50 for one in figures)
            p99 = statistics.median(one.ttft_ms.p99 for one in figures)
            lines.append(f"{f'{width}x{height}, {name}':<20}{rate:>12.2f}{p50:>14.0f}{p99:>14.0f}")
    return "\n".join(lines)
