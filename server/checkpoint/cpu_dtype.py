"""`--dtype auto` on a CPU: the fastest dtype that the checkpoint can run in and the memory holds.

vLLM takes the checkpoint's dtype on every CPU, also where the processor multiplies it in software.
What that costs is measured in docs/dtypes.md. Pure, but for `choose_dtype`.
"""

import logging
import os
from argparse import Namespace
from dataclasses import dataclass
from typing import Any

from saccade.kernels.cpu.processor import Processor, processor
from saccade.server.core.memory import available_memory, smallest_node

_LOG = logging.getLogger(__name__)

_GIB = 2**30
_FLOAT32_BYTES = 4
# Beside weights and KV cache: the server's processes with their libraries, and what each worker
# computes in.
_SERVER_BYTES = 1 * _GIB
_WORKER_BYTES = 2 * _GIB


@dataclass(frozen=True)
class Checkpoint:
    """What matters of a checkpoint.

    Attributes:
        dtype: that of its config: ``bfloat16``, ``float16`` or ``float32``.
        parameters: elements of its weights as vLLM holds them on a CPU (`parameter_count`).
        cached_elements: elements that the KV cache holds of a token.
        cached_bytes: of each in float32 and in half precision; the same where the KV cache has a
            dtype of its own.
        half_only: what rules float32 out, such as ``awq weights``; None if nothing does.
    """

    dtype: str
    parameters: int
    cached_elements: int
    half_only: str | None = None
    cached_bytes: tuple[int, int] = (4, 2)


@dataclass(frozen=True)
class Memory:
    """Bytes there are for the server, and who needs them besides weights.

    Attributes:
        available: for all processes of the server together.
        node: for a single worker, on its NUMA node; None where there are no nodes.
        kv_cache: reserved for each worker; None where vLLM takes what is left.
        context: tokens of which the KV cache must hold keys and values.
        workers: of each replica.
        replicas: data-parallel engines on this machine.
    """

    available: int
    kv_cache: int | None
    context: int
    workers: int = 1
    replicas: int = 1
    node: int | None = None


@dataclass(frozen=True)
class Choice:
    """A dtype, and in one line the reason for it."""

    dtype: str
    reason: str


def fastest_dtype(checkpoint: Checkpoint, cpu: Processor, memory: Memory) -> Choice:
    """What ``auto`` stands for; docs/dtypes.md has the measurements."""
    half = _half_precision(checkpoint.dtype, cpu)
    if cpu.float16_matmul if half == "float16" else cpu.bfloat16_matmul:
        return Choice(half, "this processor multiplies it in hardware")
    why = f"this processor multiplies {half} in software"
    if checkpoint.half_only is not None:
        return Choice(half, f"{why}, but float32 is not for {checkpoint.half_only}")
    slower = "; prompts and media take two to four times as long as they would in float32"
    cache, half_cache = (
        size * checkpoint.cached_elements * memory.context for size in checkpoint.cached_bytes
    )
    note = ""
    if memory.kv_cache is not None:
        reserved = memory.kv_cache * memory.workers
        if half_cache > reserved:  # that of float32 too: no reason for either
            note = (
                f"; the KV cache of {_gib(reserved)} does not hold the context of "
                f"{memory.context} tokens in any dtype"
            )
        elif cache > reserved:
            return Choice(
                half,
                f"{why}, but in float32 the KV cache of {_gib(reserved)} would not hold the "
                f"context of {memory.context} tokens, {_gib(cache)}{slower}",
            )
        cache = reserved
    weights = _FLOAT32_BYTES * checkpoint.parameters
    needed = memory.replicas * (weights + cache + memory.workers * _WORKER_BYTES) + _SERVER_BYTES
    sizes = f"about {_gib(needed)} of the {_gib(memory.available)} that are available"
    if needed > memory.available:
        return Choice(half, f"{why}, but float32 would take {sizes}{slower}{note}")
    share = (weights + cache) // memory.workers + _WORKER_BYTES
    if memory.node is not None and share > memory.node:
        return Choice(
            half,
            f"{why}, but in float32 a worker would take about {_gib(share)} of the "
            f"{_gib(memory.node)} that are available on the smallest NUMA node{slower}{note}",
        )
    return Choice("float32", f"{why}; float32 takes {sizes}{note}")


def describe_auto(cpu: Processor, available: int) -> str:
    """What ``auto`` will choose, as far as it can be said without a checkpoint."""
    if not cpu.features:
        return "the checkpoint's dtype"
    half = _half_precision("bfloat16", cpu)
    if cpu.bfloat16_matmul:
        return f"{half}, multiplied in hardware"
    return (
        f"float32 if weights and KV cache fit into the {_gib(available)} available, else {half}, "
        f"multiplied in software; quantised checkpoints {half}"
    )


def _half_precision(asked: str, cpu: Processor) -> str:
    """bfloat16, unless the checkpoint is of float16 and the processor is as fast with that.

    Of the two, AMX-FP16 is as fast as AMX-BF16; every other instruction for float16 is slower than
    those for bfloat16 of the same processor.
    """
    as_fast = cpu.float16_matmul and ("AMX-FP16" in cpu.onednn or not cpu.bfloat16_matmul)
    return "float16" if asked == "float16" and as_fast else "bfloat16"


def _gib(count: int) -> str:
    return f"{count / _GIB:.1f} GiB"


def parameter_count(config: Any) -> int:
    """Elements of the weights of a Qwen2.5-VL config, as vLLM 0.32 holds them on a CPU.

    It packs a copy of the output layer for its products, and one of the embeddings for nothing.
    """
    text = config.get_text_config()
    tables = 3 if config.tie_word_embeddings else 4
    return (
        tables * text.vocab_size * text.hidden_size + _layers(text) + _tower(config.vision_config)
    )


def _layers(text: Any) -> int:
    hidden, head_dim = text.hidden_size, text.hidden_size // text.num_attention_heads
    keys = text.num_key_value_heads * head_dim
    attention = 2 * hidden * hidden + hidden + 2 * (hidden + 1) * keys
    layer = attention + 3 * hidden * text.intermediate_size + 2 * hidden
    return int(text.num_hidden_layers * layer + hidden)


def _tower(vision: Any) -> int:
    hidden, inner = vision.hidden_size, vision.intermediate_size
    attention = 4 * hidden * (hidden + 1)
    mlp = 3 * hidden * inner + 2 * inner + hidden
    patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2 * hidden
    unit = hidden * vision.spatial_merge_size**2
    merger = hidden + unit * (unit + 1) + (unit + 1) * vision.out_hidden_size
    return int(vision.depth * (attention + mlp + 2 * hidden) + patch + merger)


def choose_dtype(arguments: Namespace, config: Any) -> None:
    """Puts a dtype in the place of ``auto``, and says in the log which and why.

    Leaves alone a dtype that is named, and ``auto`` on processors that `Processor` does not know.

    Args:
        arguments: vLLM's flags, parsed, for an engine on a CPU.
        config: the checkpoint's Hugging Face config.
    """
    cpu = processor()
    if arguments.dtype != "auto" or not cpu.features:
        return
    checkpoint = read_checkpoint(config, arguments)
    choice = fastest_dtype(checkpoint, cpu, _memory(arguments, config.get_text_config()))
    arguments.dtype = choice.dtype
    _LOG.info("--dtype auto is %s: %s", choice.dtype, choice.reason)


def read_checkpoint(config: Any, arguments: Namespace) -> Checkpoint:
    """What matters of a Hugging Face config and of flags that bind its dtype."""
    text = config.get_text_config()
    dtype = getattr(config, "dtype", None) or getattr(text, "dtype", None) or "float32"
    head_dim = text.hidden_size // text.num_attention_heads
    half_only = None
    method = (getattr(config, "quantization_config", None) or {}).get("quant_method")
    if method := method or arguments.quantization:
        half_only = f"{method} weights"
    elif arguments.kv_cache_dtype in ("bfloat16", "float16"):
        half_only = f"--kv-cache-dtype {arguments.kv_cache_dtype}"
    return Checkpoint(
        str(dtype).removeprefix("torch."),
        parameter_count(config),
        2 * text.num_hidden_layers * text.num_key_value_heads * head_dim,
        half_only,
        (1, 1) if arguments.kv_cache_dtype.startswith("fp8") else (4, 2),
    )


def _memory(arguments: Namespace, text: Any) -> Memory:
    available, node = available_memory(), smallest_node()
    space = os.environ.get("VLLM_CPU_KVCACHE_SPACE", "")
    reserved = int(space) * _GIB if space.isdigit() else arguments.kv_cache_memory_bytes
    if reserved is None:
        # vLLM takes this share of the memory and no more.
        available = int(available * arguments.gpu_memory_utilization)
        node = None if node is None else int(node * arguments.gpu_memory_utilization)
    context = arguments.max_model_len or text.max_position_embeddings
    return Memory(
        available,
        reserved,
        max(context, 0),  # -1: as many tokens as fit
        max(
            1, arguments.tensor_parallel_size * arguments.pipeline_parallel_size // arguments.nnodes
        ),
        arguments.data_parallel_size_local or arguments.data_parallel_size,
        node,
    )
