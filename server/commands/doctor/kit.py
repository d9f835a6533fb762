"""What the GPU kit (`saccade bench kernels`) has found here, in a few lines."""

import json
from collections.abc import Iterator
from typing import Any

import torch

from saccade.kernels.cache import cache_folder
from saccade.kernels.check.arguments import KEPT_REPORT
from saccade.kernels.dispatch import OPERATIONS
from saccade.server.commands.doctor.problem import Problem, Severity

_RUN = "saccade bench kernels (under 8 minutes)"


def kit() -> Iterator[str | Problem]:
    """Its last report; nothing where there is neither a report nor a GPU."""
    gpus = {torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}
    try:
        report: dict[str, Any] = json.loads((cache_folder() / KEPT_REPORT).read_bytes())
        device = report["hardware"]["device"]
        checked, wrong = len(report["checks"]), list(report["problems"])
        result = dict(report["result"] or {})
    except OSError:
        if gpus:
            yield Problem("no kernel was timed on this GPU yet", _RUN, severity=Severity.NOTE)
        return
    except (ValueError, KeyError, TypeError):
        yield Problem(f"{KEPT_REPORT} in the cache cannot be read", _RUN, severity=Severity.NOTE)
        return
    if wrong:
        yield Problem(
            f"on {device} {len(wrong)} kernel checks failed, the first: {wrong[0]}",
            "SACCADE_KERNELS=reference serves without them; report the kit's output",
        )
        return
    yield f"{device}: {checked} checks, all right"
    for operation in OPERATIONS:
        shown = [
            f"{number:.{digits}f} {unit}"
            for key, digits, unit in (
                ("us", 1, "us"),
                ("roofline", 0, "% of the roofline"),
                ("vs_vllm", 2, "times vLLM's speed"),
                ("vs_pytorch", 2, "times PyTorch's"),
            )
            if (number := result.get(f"{operation}_{key}")) is not None
        ]
        if shown:
            yield f"{operation:<18}{', '.join(shown)}"
    if gpus and device not in gpus:
        yield Problem(f"these are of {device}, not of this GPU", _RUN, severity=Severity.NOTE)
