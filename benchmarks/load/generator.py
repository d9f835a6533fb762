"""vLLM's own load generator, the one behind `vllm bench serve`, in a process of its own.

Its function is called instead of its command: the command of vLLM's CPU build does not start, and
its dataset needs pandas for what is a line of JSON each.
"""

import asyncio
import contextlib
import io
import multiprocessing
import random
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from saccade.benchmarks.load.dataset import read_dataset

Result = dict[str, Any]
"""What vLLM writes with ``--save-result --save-detailed``: among others ``request_throughput``,
``request_goodput``, ``duration`` in seconds, and lists in the order of the requests: ``ttfts``,
``latencies``, ``itls`` in seconds, ``input_lens``, ``output_lens``, ``generated_texts``,
``errors``."""


@dataclass(frozen=True)
class Order:
    """One run of it.

    Args:
        file: of requests, as `write_dataset` wrote it.
        rate: requests a second, at random moments (a Poisson process); inf: all at once.
        concurrency: requests at a time at most; None: as many as come.
        slo: milliseconds that a request may take to count as good, by vLLM's names ``ttft``,
            ``tpot`` and ``e2el``.
    """

    file: Path
    url: str
    model: str
    rate: float
    max_tokens: int
    seed: int
    concurrency: int | None = None
    slo: Mapping[str, float] = field(default_factory=dict)


class Generator:
    """Runs orders, one after the other, in a process that does nothing else."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def run(self, order: Order) -> Result:
        """What vLLM's generator says of one run; requests that fail stand in its ``errors``."""
        return self._pool.submit(_run, order).result()


@contextmanager
def open_generator() -> Iterator[Generator]:
    """A generator as long as the context."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield Generator(pool)


def _run(order: Order) -> Result:
    from vllm.benchmarks.datasets import SampleRequest
    from vllm.benchmarks.serve import TaskType, benchmark

    requests = [
        SampleRequest(
            prompt=line["prompt"],
            prompt_len=0,  # the server's usage says
            expected_output_len=order.max_tokens,
            request_id=f"load-{order.seed}-{index}",
            request_overrides=line.get("request_overrides"),
        )
        for index, line in enumerate(read_dataset(order.file))
    ]
    # As vLLM's command does: they decide when requests are sent.
    random.seed(order.seed)
    np.random.seed(order.seed % 2**32)
    with contextlib.redirect_stdout(io.StringIO()):  # its table
        result: Result = asyncio.run(
            benchmark(
                task_type=TaskType.GENERATION,
                endpoint_type="openai-chat",
                api_url=f"{order.url}/v1/chat/completions",
                base_url=order.url,
                model_id=order.model,
                model_name=order.model,
                tokenizer=None,
                input_requests=requests,
                logprobs=None,
                request_rate=order.rate,
                burstiness=1.0,
                disable_tqdm=True,
                num_warmups=0,
                profile=False,
                selected_percentile_metrics=["e2el"],
                selected_percentiles=[50.0, 99.0],
                ignore_eos=False,
                goodput_config_dict=dict(order.slo),
                max_concurrency=order.concurrency,
                lora_modules=None,
                extra_headers=None,
                extra_body={"temperature": 0, "min_tokens": order.max_tokens},
                ready_check_timeout_sec=0,  # else it sends the first request twice
            )
        )
    return result
