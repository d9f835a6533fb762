"""`saccade bench again`: what a follow-up costs in a conversation about the same media."""

import argparse
import asyncio
import secrets
import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from saccade.benchmarks.common.arguments import default_dtype, natural, positive
from saccade.benchmarks.common.load import Outcome, open_client, send
from saccade.benchmarks.common.near_ties import is_near_tie
from saccade.benchmarks.common.report import conclude, say
from saccade.benchmarks.common.stock import NoStock, StockServer
from saccade.benchmarks.common.workloads import Request
from saccade.benchmarks.preprocessing.videos import STOCK_VIDEO_FLAGS
from saccade.benchmarks.serving.conversations import (
    NAMES,
    Conversation,
    make_conversation,
    serving,
)
from saccade.benchmarks.serving.server_watch import api_seconds
from saccade.server.checkpoint.bundled import bundled_checkpoint
from saccade.server.commands.child import ServerError, ServerProcess

_EPILOG = """examples:
  saccade bench again
  saccade bench again --only chat --rounds 1
  saccade bench again --remote                     media by URL, from a server on this machine

Ten questions about a 60 s 1080p video, eight turns over eight 1024x768 photographs, and an agent's
twelve screenshots of which each turn drops the oldest: every turn sends all of it again. Saccade
and stock vLLM, with one API process and with two, get the same bytes, by turns; every round is
about other media. Answers may part only at tokens that stock finds nearly as likely; no figures are
printed if others differ. Host CPU is that of the API processes, the engine's own aside.

The last line is RESULT, for each: NAME_cpu_again= (host CPU of a follow-up over the first turn's)
NAME_cpu_stock= (over that of the better stock's follow-ups) NAME_ttft_stock= (likewise, medians of
time to first token). Figures are medians of the rounds.

exit codes: 0 done, 1 failed or an answer was wrong, 2 wrong use, 130 interrupted
"""
_MODEL = "demo"
_FLAGS = (
    *("--enforce-eager", "--max-model-len=32768", "--max-num-seqs=4"),
    *("--kv-cache-memory-bytes=1G", "--enable-prompt-tokens-details"),
)
_OURS = "ours"
_STOCK = {"stock": (), "stock, 2 processes": ("--api-server-count=2",)}


@dataclass(frozen=True)
class Turn:
    """What one turn took. Seconds; bytes of the request and of media that were fetched for it."""

    cpu: float
    first_token: float
    bytes: int
    prompt_tokens: int
    cached_tokens: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the benchmark's flags."""
    parser.description = "Asks again about the same media, beside stock vLLM."
    parser.epilog = _EPILOG
    parser.add_argument("--only", choices=NAMES, action="append", help="default: all")
    parser.add_argument("--remote", action="store_true", help="send media as http URLs")
    parser.add_argument("--rounds", type=positive(int), default=3, help="of each (default: 3)")
    parser.add_argument(
        "--max-tokens", type=positive(int), default=4, help="of an answer (default: 4)"
    )
    parser.add_argument(
        "--dtype",
        choices=("bfloat16", "float32"),
        help="of all servers (default: float32 on a CPU that multiplies bfloat16 in software, else "
        "bfloat16)",
    )
    parser.add_argument("--seed", type=natural, help="of the media (default: another every time)")
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
    flags = (*_FLAGS, f"--dtype={args.dtype or default_dtype()}")
    names = args.only or NAMES
    # Stock vLLM has one size for all media: told that of videos, it would shrink photographs.
    sittings = {
        STOCK_VIDEO_FLAGS: [name for name in names if name == "video"],
        (): [name for name in names if name != "video"],
    }
    rounds: Rounds = {}
    problems: list[str] = []
    near_ties: list[str] = []
    try:
        for stock_flags, of_sitting in sittings.items():
            if not of_sitting:
                continue
            servers: dict[str, ServerProcess] = {
                _OURS: ServerProcess(_MODEL, (*flags, "--allow-private-media"))
            }
            for name, more in _STOCK.items():
                stock = (*flags, *stock_flags, *more)
                servers[name] = StockServer(str(bundled_checkpoint()), stock)
            with ExitStack() as stack:
                for name, server in servers.items():
                    say(f"starting: {name}")
                    stack.enter_context(server)
                    server.wait_ready(args.timeout)
                had = compare(args, servers, of_sitting)
            rounds |= had.rounds
            problems += had.problems
            near_ties += had.near_ties
    except (ServerError, NoStock) as error:
        if tail := getattr(error, "log_tail", ""):
            print(f"the server's last lines:\n{tail}", file=sys.stderr)
        print(f"saccade bench: error: {error}", file=sys.stderr)
        return 1
    return report(args, Had(rounds, problems, near_ties))


Rounds = dict[str, list[dict[str, list[Turn]]]]  # by conversation, round, server: its turns


@dataclass(frozen=True)
class Had:
    """What conversations came to."""

    rounds: Rounds
    problems: list[str]
    near_ties: list[str]  # answers that differ where two tokens are as likely


def compare(
    args: argparse.Namespace, servers: Mapping[str, ServerProcess], names: Sequence[str]
) -> Had:
    """Have these conversations with all servers."""
    had = Had({}, [], [])
    for name in names:
        had.rounds[name] = []
        for number in range(args.rounds + 1):
            say(f"{name}, round {number}")
            talk = make_conversation(name, args.seed + number)
            order = list(servers)[:: 1 if number % 2 else -1]
            turns: dict[str, list[Turn]] = {}
            outcomes: dict[str, list[Outcome]] = {}
            bodies: list[bytes] = []
            for which in order:
                bodies, turns[which], outcomes[which] = _converse(args, talk, servers[which])
            found = _errors(outcomes)
            if not found:
                tied, found = _differences(args, servers, name, bodies, outcomes)
                had.near_ties.extend(tied)
            had.problems.extend(found)
            if number > 0 and not found:  # the first one warms up
                had.rounds[name].append(turns)
    return had


def report(args: argparse.Namespace, had: Had) -> int:
    """Tell what they came to; returns the exit code."""
    result = None if had.problems else _result(had.rounds)
    table = "" if result is None else _table(had.rounds)
    more = {
        "rounds": {
            name: [
                {which: [asdict(turn) for turn in one] for which, one in of.items()} for of in all_
            ]
            for name, all_ in had.rounds.items()
        },
        "near_ties": had.near_ties,
    }
    shown = "\n".join((*had.near_ties, table))
    return conclude("again", result, had.problems, shown, args.json, more)


def _converse(
    args: argparse.Namespace, talk: Conversation, server: ServerProcess
) -> tuple[list[bytes], list[Turn], list[Outcome]]:
    """The requests, what each took, and what came of it."""
    with ExitStack() as stack:
        urls, fetched = [file.url for file in talk.files], _nothing
        if args.remote:
            files = {file.name: file.data for file in talk.files}
            root, fetched = stack.enter_context(serving(files))
            urls = [root + file.name for file in talk.files]
        bodies = [talk.body(turn, _MODEL, args.max_tokens, urls) for turn in range(talk.turns)]
        turns, outcomes = [], []
        for index, body in enumerate(bodies):
            request = Request(index, body, "video" if talk.name == "video" else "image", 0)
            cpu, before = api_seconds(server.pid), fetched()
            outcome = asyncio.run(_ask(args, server.url, request))
            outcomes.append(outcome)
            turns.append(
                Turn(
                    api_seconds(server.pid) - cpu,
                    outcome.first_token or 0.0,
                    len(body) + fetched() - before,
                    outcome.prompt_tokens or 0,
                    outcome.cached_tokens or 0,
                )
            )
    return bodies, turns, outcomes


def _nothing() -> int:
    return 0


async def _ask(args: argparse.Namespace, url: str, request: Request) -> Outcome:
    async with open_client(url, 1, args.timeout) as client:
        return await send(client, request)


def _errors(outcomes: Mapping[str, list[Outcome]]) -> list[str]:
    return [
        f"{which}, turn {outcome.index}: {outcome.error or 'no answer'} {outcome.detail}"
        for which, of_server in outcomes.items()
        for outcome in of_server
        if outcome.error or not outcome.text
    ]


def _differences(
    args: argparse.Namespace,
    servers: Mapping[str, ServerProcess],
    name: str,
    bodies: list[bytes],
    outcomes: Mapping[str, list[Outcome]],
) -> tuple[list[str], list[str]]:
    """Answers of ours that part from stock's at near ties, and what differs for no such reason."""
    tied: list[str] = []
    differing: list[str] = []
    for body, ours, *stock in zip(
        bodies, outcomes[_OURS], *(outcomes[which] for which in _STOCK), strict=True
    ):
        for which, other in zip(_STOCK, stock, strict=True):
            text = f"{name}, turn {ours.index}: {ours.text!r}, {which} {other.text!r}"
            if ours.prompt_tokens != other.prompt_tokens:
                differing.append(f"{text}: {ours.prompt_tokens}, {other.prompt_tokens} tokens")
            elif ours.text != other.text:
                near = is_near_tie(servers[which].url, body, ours.text, args.timeout)
                (tied if near else differing).append(text)
    return tied, differing


def _follow_up(turns: list[Turn], key: str) -> float:
    """The median of the turns after the first."""
    return statistics.median(getattr(turn, key) for turn in turns[1:])


def _result(rounds: Rounds) -> dict[str, float]:
    result = {}
    for name, of_name in rounds.items():
        again, cpu, ttft = [], [], []
        for one in of_name:
            ours = one[_OURS]
            again.append(_follow_up(ours, "cpu") / ours[0].cpu)
            cpu.append(_follow_up(ours, "cpu") / min(_follow_up(one[s], "cpu") for s in _STOCK))
            best = min(_follow_up(one[s], "first_token") for s in _STOCK)
            ttft.append(_follow_up(ours, "first_token") / best)
        result[f"{name}_cpu_again"] = statistics.median(again)
        result[f"{name}_cpu_stock"] = statistics.median(cpu)
        result[f"{name}_ttft_stock"] = statistics.median(ttft)
    return result


def _table(rounds: Rounds) -> str:
    """For a terminal: medians over the rounds, of the first turn and of the follow-ups."""
    head = ("", "CPU ms", "", "TTFT ms", "", "MB", "", "cached")
    lines = ["{:<28}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}".format(*head)]
    lines.append("{:<28}".format("") + 3 * f"{'first':>9}{'again':>9}" + f"{'again':>9}")
    for name, of_name in rounds.items():
        for which in of_name[0]:
            turns = [one[which] for one in of_name]
            cells = ""
            for key, unit in (("cpu", 1e3), ("first_token", 1e3), ("bytes", 1e-6)):
                first = statistics.median(getattr(one[0], key) for one in turns)
                again = statistics.median(_follow_up(one, key) for one in turns)
                cells += f"{unit * first:>9.1f}{unit * again:>9.1f}"
            cached = statistics.median(
                _follow_up(one, "cached_tokens") / _follow_up(one, "prompt_tokens") for one in turns
            )
            lines.append(f"{f'{name}, {which}':<28}{cells}{cached:>9.2f}")
    return "\n".join(lines)
