"""The kit's flags. Imports nothing heavy: `saccade bench` reads them for every benchmark."""

import argparse
from pathlib import Path

KEPT_REPORT = "kernels.json"
"""In the user's cache folder: the report of the last run that was no dry run."""

_EPILOG = """examples:
  python -m saccade.kernels.check
  python -m saccade.kernels.check --json kernels.json
  python -m saccade.kernels.check --graph --bandwidth 2039 --tflops 312
  TRITON_INTERPRET=1 SACCADE_KERNELS=triton python -m saccade.kernels.check --dry-run
  saccade bench kernels --json kernels.json

First every kernel is held against float64, on shapes of published models and on edges, in every
format: attention may err 1.25 times as much as PyTorch code in that format; mrope and patch_input
must be exact, merge_input rounded once. Results are NaN until they are written, and what lies
around tensors must stay as it was. While one check fails there are no figures; the exit code is 1.

Then times: of single calls with caches emptied before each; where the GPU waits for the host to
launch, that counts. With --graph, calls are replayed from a CUDA graph: no waiting, but warm
caches, so that small cases move fewer bytes than the formula says. When --minutes are over, what is
left is cut, and listed. Each operation's most telling size comes first.

roofline    the least time for the bytes that the operation must move (kernels/check/traffic.py),
            or for full attention's products if that is longer, in per cent of the time taken
PyTorch     rotations and pointwise operations by torch.compile; attention by each back end of SDPA
            and by varlen_attn, and by flash-attn where that is installed
vLLM        where it is installed: its own layers in eager mode. Where Inductor compiles the model,
            vLLM's rotary embedding is fused too, and ours has next to nothing to gain

The last line is RESULT; for each operation and its first size: our microseconds, our per cent of
the roofline, the time of vLLM and of PyTorch's fastest way over ours.

A dry run does the same with tiny cases and prints no figures; without a GPU it takes the CPU's
backends. Triton's interpreter computes wrongly in bfloat16, so under it cases are in float16.
"""


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


_positive.__name__ = "float"  # argparse names it in "invalid float value"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags."""
    parser.description = "Checks each kernel on a GPU, and times it beside PyTorch and vLLM."
    parser.epilog = _EPILOG
    parser.add_argument(
        "--dry-run", action="store_true", help="tiny cases, no figures; needs no GPU"
    )
    parser.add_argument("--graph", action="store_true", help="time CUDA graphs of calls")
    parser.add_argument(
        "--bandwidth",
        type=_positive,
        metavar="GB/s",
        help="of the GPU's memory (default: its data sheet's, or what a copy reaches)",
    )
    parser.add_argument(
        "--tflops",
        type=_positive,
        metavar="TFLOP/s",
        help="of matrix products in 16 bits, dense (default: likewise)",
    )
    parser.add_argument(
        "--minutes",
        type=_positive,
        default=7.0,
        metavar="N",
        help="after which nothing new is begun (default: 7)",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the report to this file (default: where `saccade doctor` reads it, but for a "
        "dry run)",
    )
