"""Requests as files that vLLM's own `vllm bench serve` reads, and the command that sends them.

A line is `{"prompt": [messages]}`: vLLM's dataset `custom`, without a tokenizer, sends messages as
they are. Its other datasets cannot carry a video or a conversation.
"""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from saccade.benchmarks.load.profiles import Sample


def write_dataset(file: Path, samples: Iterable[Sample]) -> None:
    """One line a request. ``request_overrides`` are our own: vLLM reads past them."""
    with file.open("w", encoding="utf-8") as lines:
        for sample in samples:
            line: dict[str, Any] = {"prompt": sample.messages}
            if sample.answer is not None:
                line["request_overrides"] = {"min_tokens": 0}
            lines.write(json.dumps(line) + "\n")


def read_dataset(file: Path) -> list[dict[str, Any]]:
    """The lines of a file."""
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def vllm_command(
    file: Path | str,
    url: str,
    model: str,
    requests: int,
    rate: float,
    max_tokens: int,
    seed: int,
    slo: Mapping[str, float],
    concurrency: int | None = None,
) -> str:
    """What sends the same requests at the same times with plain vLLM.

    It needs pandas, as vLLM's dataset does, and keeps what is measured in its file alone: without a
    tokenizer it prints no times to first token.
    """
    words: Sequence[object] = (
        *("vllm", "bench", "serve", "--backend", "openai-chat"),
        *("--endpoint", "/v1/chat/completions", "--base-url", url, "--model", model),
        *("--dataset-name", "custom", "--dataset-path", file),
        *("--skip-tokenizer-init", "--disable-shuffle", "--temperature", 0, "--extra-body"),
        json.dumps({"max_completion_tokens": max_tokens, "min_tokens": max_tokens}),
        *("--num-prompts", requests, "--request-rate", rate, "--seed", seed),
        *(("--max-concurrency", concurrency) if concurrency else ()),
        *("--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,90,99"),
        *(("--goodput", *(f"{name}:{limit:g}" for name, limit in slo.items())) if slo else ()),
        *("--save-result", "--save-detailed"),
    )
    return shlex.join(str(word) for word in words)
