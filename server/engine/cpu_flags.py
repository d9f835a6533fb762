"""What vLLM's engine cannot do on a CPU, named at the start and not by a process of the engine.

Of the flags, the checkpoint's configuration and the processor. Checked on vLLM 0.32.0.
"""

import logging
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import torch
from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS

from saccade.kernels.cpu.processor import processor
from saccade.model.cpu.cache_dtype import refuse_cache_dtype

_LOG = logging.getLogger(__name__)

_DTYPES = {
    "half": torch.float16,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float": torch.float32,
    "float32": torch.float32,
}

# Quantises weights while they are loaded, and lacks an operation on a CPU: fp8_per_block on those
# without AMX. Of vLLM's other methods fp8_per_channel works, and what quantises experts alone finds
# none in this model.
_ONLINE = ("fp8", "fp8_per_tensor", "fp8_per_block", "mxfp8", "mxfp4")
# vLLM's only methods whose layers compute in float32 too, but for weights that are packed.
_IN_FLOAT32 = {"compressed-tensors", "torchao"}


def check_cpu_engine(arguments: Namespace, config: Any) -> None:
    """Refuses what would fail late or answer wrongly on a CPU; says in the log what is slow.

    Args:
        arguments: vLLM's flags, parsed, for an engine on a CPU.
        config: the checkpoint's Hugging Face config.

    Raises:
        ValueError: one line that names the flag and the mend.
    """
    _refuse_ray(arguments)
    dtype = _model_dtype(arguments, config)
    _check_quantization(arguments, config, dtype)
    refuse_cache_dtype(arguments.kv_cache_dtype, dtype)
    if dtype == torch.float16 and not processor().float16_matmul:
        _LOG.warning(
            "--dtype float16 is many times slower than the others on this processor, which "
            "multiplies it in software: use --dtype bfloat16 or float32"
        )


def _refuse_ray(arguments: Namespace) -> None:
    executor = str(arguments.distributed_executor_backend)  # may be a class by its name
    if executor == "ray" or ".ray_" in executor:
        raise ValueError(
            "--distributed-executor-backend ray is not supported on a CPU: leave it out, vLLM's "
            "own processes (mp) do the same on one machine"
        )
    if arguments.data_parallel_backend != "mp":
        raise ValueError(
            f"--data-parallel-backend {arguments.data_parallel_backend} is not supported on a "
            "CPU: leave it out (mp), or start independent servers"
        )


def _model_dtype(arguments: Namespace, config: Any) -> torch.dtype:
    """The dtype that vLLM will compute in."""
    dtype = _DTYPES.get(arguments.dtype)
    if dtype is None:  # auto
        dtype = getattr(config, "dtype", None) or torch.float32
        dtype = torch.bfloat16 if dtype == torch.float32 else dtype
    return dtype


def _check_quantization(arguments: Namespace, config: Any, dtype: torch.dtype) -> None:
    quantization = getattr(config, "quantization_config", None) or {}
    stored = quantization.get("quant_method")
    method = stored or (arguments.quantization or "").lower()
    if not method:
        return
    if stored is None and method in _ONLINE and not _can_quantize(method):
        raise ValueError(
            f"--quantization {method} of a checkpoint that is not quantised is not supported on "
            "this CPU, for which vLLM has no such product of matrices: leave it out, or use "
            "fp8_per_channel"
        )
    half_only = method in set(QUANTIZATION_METHODS) - _IN_FLOAT32 or _packs_weights(quantization)
    if dtype == torch.float32 and half_only:
        whose = f"{method} weights" if stored else f"--quantization {method}"
        raise ValueError(
            f"--dtype {str(dtype).removeprefix('torch.')} is not supported with {whose}: "
            "use --dtype bfloat16"
        )


def _can_quantize(method: str) -> bool:
    return method == "fp8_per_block" and "AMX-BF16" in processor().features


def _packs_weights(quantization: Mapping[str, Any]) -> bool:
    """Whether a checkpoint of compressed-tensors has weights of a few bits, several a word."""
    parts = [quantization, *(quantization.get("config_groups") or {}).values()]
    return any(part.get("format") == "pack-quantized" for part in parts)
