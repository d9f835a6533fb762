"""`saccade bench`: measure a server."""

import argparse
from collections.abc import Callable

from saccade.benchmarks import kernels, suite
from saccade.benchmarks.load import command as load
from saccade.benchmarks.preprocessing import images as host_path
from saccade.benchmarks.preprocessing import positions, videos
from saccade.benchmarks.serving import again, overload, responsiveness, serve
from saccade.benchmarks.tower import command as tower

_BENCHMARKS = (
    ("load", load, "open-loop load by vLLM's generator: saturation, latency at rates, goodput"),
    ("serve", serve, "closed-loop load on a server: first token, between tokens, whole request"),
    ("again", again, "follow-ups of conversations about the same media, beside stock vLLM"),
    ("host-path", host_path, "CPU and memory of an image before the engine, beside stock vLLM"),
    ("clip-path", videos, "CPU and memory of a long video before the engine, beside stock vLLM"),
    ("tower", tower, "the vision tower alone, beside stock vLLM's, with equal weights"),
    ("planning", positions, "positions and window plans on the host, beside transformers'"),
    ("kernels", kernels, "each kernel on a GPU, beside what vLLM does itself"),
    ("liveliness", responsiveness, "/health while 12-megapixel images decode"),
    ("overload", overload, "twice what a server can do: refusals, order, right answers, leaks"),
    ("all", suite, "all of these: reports in a folder, tables in documents"),
)
_EPILOG = """examples:
  saccade bench load --profile image-448 --svg load.svg
  saccade bench load --versus stock --rates inf,50%,80% --json load.json
  saccade bench serve
  saccade bench serve --size 1024x768 --concurrency 32 --requests 256
  saccade bench again
  saccade bench host-path
  saccade bench clip-path --rounds 1
  saccade bench tower --layers 4
  saccade bench planning
  saccade bench kernels --dry-run
  saccade bench liveliness
  saccade bench overload
  saccade bench all --quick
  saccade bench serve --help

exit codes: 0 done, 1 failed or an answer was wrong, 2 wrong use, 130 interrupted
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's benchmarks and their flags."""
    parser.description = "Measures a server. A run with a wrong answer prints no figures."
    parser.epilog = _EPILOG
    benchmarks = parser.add_subparsers(title="benchmarks", required=True, metavar="BENCHMARK")
    for name, module, told in _BENCHMARKS:
        child = benchmarks.add_parser(
            name, help=told, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(child)
        child.set_defaults(benchmark=module.run)


def run(args: argparse.Namespace) -> int:
    """Run the chosen benchmark; returns the exit code."""
    benchmark: Callable[[argparse.Namespace], int] = args.benchmark
    return benchmark(args)
