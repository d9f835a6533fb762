"""`saccade bench serve`: Saccade and stock vLLM under the same closed-loop load, answers checked.

Figures under open-loop load, of any server, are those of `saccade bench load`.
"""

import argparse
import secrets
import sys
from pathlib import Path

from saccade.benchmarks.common.arguments import natural, positive, sizes
from saccade.benchmarks.common.stock import NoStock
from saccade.benchmarks.common.workloads import KINDS
from saccade.benchmarks.serving.versus import VERSUS_SIZES, run_versus
from saccade.server.commands.child import ServerError

_EPILOG = """examples:
  saccade bench serve --versus stock --max-tokens 4
  saccade bench serve --workload video --size 640x480 --seconds 10
  saccade bench serve --concurrency 32 --requests 512 --max-tokens 64 --json result.json

Starts both on the bundled checkpoint. Both get the same requests from --concurrency callers, each
of whom asks again when it has its answer, in rounds by turns. Every image and video is different,
so that caches do not help. Every answer is checked: 200, not empty, a valid finish_reason, and as
many prompt tokens as planned. Answers may part only at tokens that stock finds nearly as likely;
they are listed, and no figures are printed if others differ. The last line is, for each width,
RESULT rps_ratio_448= (our requests per second over stock's) ttft_p99_ratio_448= (our time to first
token over stock's).

exit codes: 0 done, 1 failed or an answer was wrong, 2 wrong use, 130 interrupted
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the benchmark's flags."""
    parser.description = "Puts Saccade and stock vLLM under the same closed-loop load, by turns."
    parser.epilog = _EPILOG
    parser.add_argument(
        "--versus",
        choices=("stock",),
        default="stock",
        help="what to compare with: vLLM without Saccade (default: stock)",
    )
    parser.add_argument(
        "--dtype",
        choices=("bfloat16", "float32"),
        help="of both servers (default: float32 on a CPU that multiplies bfloat16 in software, "
        "else bfloat16)",
    )
    parser.add_argument("--workload", choices=KINDS, default="image", help="default: image")
    parser.add_argument(
        "--size",
        type=sizes,
        default=VERSUS_SIZES,
        metavar="WxH[,WxH]",
        help="of images or frames in pixels, one after the other (default: 448x448,1024x768)",
    )
    parser.add_argument(
        "--seconds", type=positive(float), default=4.0, help="length of a video (default: 4)"
    )
    parser.add_argument(
        "--concurrency", type=positive(int), default=8, help="callers at a time (default: 8)"
    )
    parser.add_argument(
        "--requests", type=positive(int), default=64, help="to measure, of each size (default: 64)"
    )
    parser.add_argument(
        "--max-tokens", type=positive(int), default=16, help="of an answer (default: 16)"
    )
    parser.add_argument(
        "--ignore-eos",
        action="store_true",
        help="answers of exactly --max-tokens (an extension of vLLM's API)",
    )
    parser.add_argument("--seed", type=natural, help="of the content (default: another every time)")
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
    if args.workload == "video" and any(side % 2 for size in args.size for side in size):
        print("saccade bench: error: --size: videos need even sides", file=sys.stderr)
        return 2
    try:
        return run_versus(args)
    except (ServerError, NoStock) as error:
        if tail := getattr(error, "log_tail", ""):
            print(f"the server's last lines:\n{tail}", file=sys.stderr)
        print(f"saccade bench: error: {error}", file=sys.stderr)
        return 1
