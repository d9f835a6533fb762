"""Which of vLLM's parts the processes of an engine use: its own, or ours."""

import json
import os
from pathlib import Path
from typing import Any

from vllm.distributed.device_communicators.shm_broadcast import SpinCondition
from vllm.model_executor.custom_op import op_registry_oot
from vllm.model_executor.layers.activation import SiluAndMul
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.rotary_embedding.mrope import MRotaryEmbedding
from vllm.v1.core.sched.scheduler import Scheduler

SCHEDULER_FILE = "VLLM_PARTS_OF_SCHEDULER"
"""Environment variable: where `ReportingScheduler` writes the parts of its process, as JSON."""


def parts_of_process() -> dict[str, Any]:
    """Where the code of this process is from."""
    return {"wait": SpinCondition.wait.__module__, "layers": sorted(op_registry_oot)}


def parts_of_worker(model: Any) -> dict[str, Any]:
    """As `parts_of_process`, and where the model's layers are from. Runs in the worker."""
    kinds = (RMSNorm, SiluAndMul, MRotaryEmbedding)
    layers = {type(layer).__module__ for layer in model.modules() if isinstance(layer, kinds)}
    return {**parts_of_process(), "of_model": sorted(layers)}


class ReportingScheduler(Scheduler):
    """vLLM's scheduler, which tells about the process of the engine's core."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        parts = {**parts_of_process(), "pid": os.getpid()}
        Path(os.environ[SCHEDULER_FILE]).write_text(json.dumps(parts), encoding="utf-8")
