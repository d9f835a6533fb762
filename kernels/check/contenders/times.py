"""Times of calls, and the share of what a device could do at best that they are."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

_ROUNDS = 2  # so that a drift of the clock meets all


@dataclass(frozen=True)
class Roof:
    """What a device can do at best; None where that is not known.

    Attributes:
        bandwidth: Of its memory, GB/s.
        flops: Of matrix products in 16 bits, without sparsity, TFLOP/s.
    """

    bandwidth: float | None = None
    flops: float | None = None

    def microseconds(self, moved: int, flops: int) -> float | None:
        """The least time for this many bytes and operations; None if that is not known.

        Args:
            flops: Floating point operations, 0 where they do not count.
        """
        times = []
        for work, rate, unit in ((moved, self.bandwidth, 1e3), (flops, self.flops, 1e6)):
            if work:
                if rate is None:
                    return None
                times.append(work / (rate * unit))
        return max(times)


# From data sheets, by the name that `torch.cuda.get_device_name` gives.
DATA_SHEETS = {
    "NVIDIA A10": Roof(600, 125),
    "NVIDIA A100-PCIE-40GB": Roof(1555, 312),
    "NVIDIA A100-SXM4-40GB": Roof(1555, 312),
    "NVIDIA A100 80GB PCIe": Roof(1935, 312),
    "NVIDIA A100-SXM4-80GB": Roof(2039, 312),
    "NVIDIA B200": Roof(8000, 2250),
    "NVIDIA GeForce RTX 3090": Roof(936, 71),
    "NVIDIA GeForce RTX 4090": Roof(1008, 165),
    "NVIDIA GeForce RTX 5090": Roof(1792, 209),
    "NVIDIA H100 80GB HBM3": Roof(3352, 989),
    "NVIDIA H100 NVL": Roof(3938, 835),
    "NVIDIA H100 PCIe": Roof(2039, 756),
    "NVIDIA H200": Roof(4800, 989),
    "NVIDIA L4": Roof(300, 121),
    "NVIDIA L40S": Roof(864, 362),
    "AMD Instinct MI300X": Roof(5300, 1307),
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
    calls: Mapping[str, Callable[[], object]], device: torch.device, graph: bool
) -> dict[str, Times | Exception]:
    """Time them by turns; what one raises takes the place of its times.

    Args:
        graph: Replay a CUDA graph of calls: without what a launch costs the host, caches warm.
            Otherwise each call is launched by itself, and caches are emptied before it.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    failed: dict[str, Times | Exception] = {}
    for number in range(_ROUNDS if device.type == "cuda" else 1):
        for name in list(calls)[:: 1 if number % 2 == 0 else -1]:
            if name in failed:
                continue
            try:
                times[name] += _milliseconds(calls[name], device, graph)
            except Exception as error:  # such as an operation that no CUDA graph can hold
                failed[name] = error
    return {name: Times.of(taken) for name, taken in times.items() if name not in failed} | failed


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


def measure_roof(device: torch.device) -> Roof:
    """What copies of memory and products of matrices in bfloat16 reach on this GPU."""
    source = torch.empty(2**29, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = Times.of(_milliseconds(lambda: target.copy_(source), device, False)).median
    side = 8192
    left = torch.randn(side, side, device=device).bfloat16()
    product = Times.of(_milliseconds(lambda: left @ left, device, False)).median
    return Roof(2 * source.numel() / (copy * 1e3), 2 * side**3 / (product * 1e6))
