"""`saccade bench load`: what one or two servers do under open-loop load, by vLLM's generator."""

import argparse
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from saccade.benchmarks.common.arguments import default_dtype, natural, positive
from saccade.benchmarks.common.report import conclude, provenance, say
from saccade.benchmarks.common.stock import SAMPLING_FLAG, NoStock, StockServer
from saccade.benchmarks.load.asking import LoadError, first_model, version
from saccade.benchmarks.load.checks import Checker
from saccade.benchmarks.load.dataset import vllm_command, write_dataset
from saccade.benchmarks.load.generator import open_generator
from saccade.benchmarks.load.profiles import PROFILES
from saccade.benchmarks.load.rates import SWEEP, parse_rates, parse_slo
from saccade.benchmarks.load.report import Report, flat, markdown, profile_report, svg
from saccade.benchmarks.load.runs import Plan, Target, measure
from saccade.benchmarks.load.witnesses import knows_answers
from saccade.benchmarks.serving.server_watch import listening_process
from saccade.server.checkpoint.bundled import bundled_checkpoint
from saccade.server.commands.child import LIGHT_FLAGS, ServerError, ServerProcess

_EPILOG = f"""examples:
  saccade bench load --profile image-448           starts `saccade serve demo` and measures it
  saccade bench load --url http://localhost:8000 --slo ttft:500,e2e:2000 --svg load.svg
  saccade bench load --versus stock --rates inf,50%,80% --markdown load.md --json load.json
  saccade bench load --url http://localhost:8000 --versus http://localhost:8001
  saccade bench load --profile video --write-dataset .     a file for `vllm bench serve`

profiles:
{chr(10).join(f"  {name:<14}{profile.told}" for name, profile in PROFILES.items())}

Requests come at random moments (a Poisson process), whether those before them are answered or not,
from the load generator of `vllm bench serve`; docs/load-testing.md has the same by the tools
themselves. Saturation is what comes of all requests at once (rate inf); a rate like 80% is of the
saturation of the server that is compared with, or of the only one; sweep is
{SWEEP}.
Two servers get the same requests at the same moments, in alternating rounds; no request is sent to
a server twice. Unless every answer is right, no figures are printed: prompt tokens as planned,
output tokens as asked for, answers of two servers equal but for near ties, and, where the bundled
model is served, one request in eight a question whose answer is known.

The last line is RESULT, of two servers the ratios of the first over the second, else the figures:
PROFILE_saturation_requests_per_second= PROFILE_80_ttft_p50_ms= and so on.

exit codes: 0 done, 1 failed or an answer was wrong, 2 wrong use, 130 interrupted
"""
_STOCK = "stock"
_LOCAL = ("127.0.0.1", "localhost", "::1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the benchmark's flags."""
    parser.description = "Puts one or two servers under open-loop load, up to saturation."
    parser.epilog = _EPILOG
    parser.add_argument(
        "--profile", choices=PROFILES, action="append", help="what to send (default: all in turn)"
    )
    parser.add_argument("--url", help="the server (default: start one)")
    parser.add_argument(
        "--versus", metavar="stock|URL", help="another one; stock: start vLLM without Saccade"
    )
    parser.add_argument("--model", default="demo", help="what is started serves (default: demo)")
    parser.add_argument(
        "--server-flag",
        action="append",
        default=[],
        metavar="FLAG",
        help="of all servers that are started, e.g. --server-flag=--max-num-seqs=64",
    )
    parser.add_argument(
        "--rounds",
        type=positive(int),
        help="at every rate (default: 5 with --versus, else 1)",
    )
    parser.add_argument(
        "--rates",
        type=parse_rates,
        default=parse_rates("sweep"),
        metavar="R[,R]",
        help="requests a second, inf, or shares like 80%% (default: sweep)",
    )
    parser.add_argument("--requests", type=positive(int), default=64, help="of a run (default: 64)")
    parser.add_argument(
        "--concurrency",
        type=positive(int),
        help="requests at a time at most; with --rates inf the load is closed-loop (default: no "
        "limit)",
    )
    parser.add_argument(
        "--max-tokens", type=positive(int), default=16, help="of an answer (default: 16)"
    )
    parser.add_argument(
        "--slo",
        type=parse_slo,
        default={},
        metavar="NAME:MS[,NAME:MS]",
        help="what counts for goodput: ttft, tpot and e2e, in milliseconds",
    )
    parser.add_argument("--seed", type=natural, help="of the content (default: another every time)")
    parser.add_argument(
        "--write-dataset",
        type=Path,
        metavar="FOLDER",
        help="write the requests for vLLM's own command instead of sending them",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to this file")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write tables to this file")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write charts to this file")


def run(args: argparse.Namespace) -> int:
    """Run the benchmark; returns the exit code."""
    if args.seed is None:
        args.seed = secrets.randbelow(2**31)
    if args.rounds is None:
        args.rounds = 5 if args.versus else 1
    names = list(dict.fromkeys(args.profile or PROFILES))
    if args.write_dataset is not None:
        return _write_datasets(args, names)
    if args.versus not in (None, _STOCK) and args.url is None:
        print("saccade bench: error: --versus URL needs --url", file=sys.stderr)
        return 2
    try:
        with ExitStack() as stack:
            targets = dict(_open_targets(args, stack))
            if len(targets) < 1 + (args.versus is not None):
                raise LoadError("--url and --versus are the same server")
            return _measure(args, names, targets)
    except (ServerError, LoadError, NoStock, httpx.HTTPError) as error:
        if tail := getattr(error, "log_tail", ""):
            print(f"the server's last lines:\n{tail}", file=sys.stderr)
        print(f"saccade bench: error: {error}", file=sys.stderr)
        return 1


def _write_datasets(args: argparse.Namespace, names: list[str]) -> int:
    args.write_dataset.mkdir(parents=True, exist_ok=True)
    for name in names:
        file = args.write_dataset / f"{name}.jsonl"
        write_dataset(file, PROFILES[name].samples(_content_seed(args, name), range(args.requests)))
        print(_rerun(args, file, args.url or "http://localhost:8000", args.model))
    return 0


def _content_seed(args: argparse.Namespace, name: str) -> int:
    """Another one for each profile: two of them draw the same image from the same."""
    seed: int = len(PROFILES) * args.seed + list(PROFILES).index(name)
    return seed


def _rerun(args: argparse.Namespace, file: Path, url: str, model: str) -> str:
    return vllm_command(
        file,
        url.rstrip("/").removesuffix("/v1"),
        model,
        args.requests,
        float("inf"),
        args.max_tokens,
        args.seed,
        args.slo,
        args.concurrency,
    )


def _open_targets(args: argparse.Namespace, stack: ExitStack) -> Iterator[tuple[str, Target]]:
    flags = [*LIGHT_FLAGS, f"--dtype={default_dtype()}", *args.server_flag]
    started: dict[str, ServerProcess] = {}
    if args.url is None:
        started["saccade"] = ServerProcess(args.model, flags)
    if args.versus == _STOCK:
        checkpoint = str(bundled_checkpoint()) if args.model == "demo" else args.model
        started[_STOCK] = StockServer(checkpoint, (*flags, SAMPLING_FLAG))
    for server in started.values():
        stack.enter_context(server)
    if args.url is not None:
        yield _running(args.url)
    for name, server in started.items():
        say(f"starting: {name}")
        server.wait_ready(600)
        yield name, Target(server.url, first_model(server.url), server.pid)
    if args.versus not in (None, _STOCK):
        yield _running(args.versus)


def _running(url: str) -> tuple[str, Target]:
    """A server that is not ours to start, by its host and port."""
    url = url.rstrip("/").removesuffix("/v1")
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise LoadError(f"{url} is no URL: {error}") from error
    pid = listening_process(parts.port or 80) if parts.host in _LOCAL else None
    return parts.netloc.decode(), Target(url, first_model(url), pid)


def _measure(args: argparse.Namespace, names: list[str], targets: Mapping[str, Target]) -> int:
    urls = {name: target.url for name, target in targets.items()}
    witnesses = all(
        knows_answers(target.url, target.model, args.max_tokens) for target in targets.values()
    )
    say("one request in eight has an answer that is known" if witnesses else "no answer is known")
    profiles: dict[str, Report] = {}
    problems: list[str] = []
    with open_generator() as generator:
        for name in names:
            plan = Plan(
                requests=args.requests,
                rounds=args.rounds,
                rates=args.rates,
                max_tokens=args.max_tokens,
                seed=_content_seed(args, name),
                witnesses=witnesses,
                slo=args.slo,
                concurrency=args.concurrency,
            )
            models = {which: target.model for which, target in targets.items()}
            checker = Checker(urls, models, args.max_tokens)
            measured = measure(name, PROFILES[name], plan, targets, generator, checker)
            problems += measured.problems
            profiles[name] = {
                "told": PROFILES[name].told,
                "rates": profile_report(measured),
                "checks": asdict(checker.tally),
                "checked": checker.tally.sentence(),
            }
    return _conclude(args, targets, profiles, problems)


def _conclude(
    args: argparse.Namespace,
    targets: Mapping[str, Target],
    profiles: dict[str, Report],
    problems: list[str],
) -> int:
    more: dict[str, Any] = {
        "arguments": {
            "rounds": args.rounds,
            "rates": [rate.label for rate in args.rates],
            **{name: getattr(args, name) for name in ("requests", "max_tokens", "slo", "seed")},
            "concurrency": args.concurrency,
        },
        "servers": {
            name: {"model": target.model, "version": version(target.url)}
            for name, target in targets.items()
        },
        "profiles": None if problems else profiles,
    }
    if problems:
        return conclude("load", None, problems, "", args.json, more)
    report = {**more, **provenance()}
    text = markdown(report)
    for file, content in ((args.markdown, text), (args.svg, svg(report))):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
    return conclude("load", flat(profiles), problems, text, args.json, more)
