"""Times of kernels, and what share of a device's memory bandwidth they are."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

WAYS = ("ours", "stock")
_ROUNDS = 2  # so that a drift of the clock meets both

# GB/s, from data sheets, by the name that `torch.cuda.get_device_name` gives.
BANDWIDTHS = {
    "NVIDIA A10": 600,
    "NVIDIA A100-PCIE-40GB": 1555,
    "NVIDIA A100-SXM4-40GB": 1555,
    "NVIDIA A100 80GB PCIe": 1935,
    "NVIDIA A100-SXM4-80GB": 2039,
    "NVIDIA B200": 8000,
    "NVIDIA GeForce RTX 3090": 936,
    "NVIDIA GeForce RTX 4090": 1008,
    "NVIDIA GeForce RTX 5090": 1792,
    "NVIDIA H100 80GB HBM3": 3352,
    "NVIDIA H100 NVL": 3938,
    "NVIDIA H100 PCIe": 2039,
    "NVIDIA H200": 4800,
    "NVIDIA L4": 300,
    "NVIDIA L40S": 864,
    "AMD Instinct MI300X": 5300,
}


@dataclass(frozen=True)
class Times:
    """Of many calls, in microseconds."""

    median: float
    p20: float
    p80: float
    calls: int

    @staticmethod
    def of(milliseconds: list[float]) -> "Times":
        p20, median, p80 = (1e3 * float(t) for t in np.percentile(milliseconds, (20, 50, 80)))
        return Times(median, p20, p80, len(milliseconds))


def measure(
    runs: Mapping[str, Callable[[], object]], device: torch.device, graph: bool
) -> dict[str, Times]:
    """Time both sides by turns.

    Args:
        graph: Replay a CUDA graph of calls: without what a launch costs the host, caches warm.
            Otherwise each call is launched by itself, and caches are emptied before it.
    """
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(_ROUNDS):
        for way in WAYS if number % 2 == 0 else reversed(WAYS):
            times[way] += _milliseconds(runs[way], device, graph)
    return {way: Times.of(taken) for way, taken in times.items()}


def _milliseconds(call: Callable[[], object], device: torch.device, graph: bool) -> list[float]:
    """Of each call, or of each replay divided by its calls."""
    if device.type == "cuda":
        from triton.testing import do_bench, do_bench_cudagraph

        bench = do_bench_cudagraph if graph else do_bench
        found: list[float] = bench(call, return_mode="all")
        return found
    began = time.perf_counter()  # of a dry run, whose times nobody sees
    call()
    return [1e3 * (time.perf_counter() - began)]


def roofline(moved: int | None, microseconds: float, bandwidth: float | None) -> float | None:
    """Per cent of the time that memory needs at least; None if either number is unknown.

    Args:
        moved: Bytes.
        bandwidth: GB/s.
    """
    if moved is None or bandwidth is None:
        return None
    return 100 * moved / (bandwidth * 1e3 * microseconds)
