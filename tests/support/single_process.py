"""vLLM's model classes in the current process, without an engine. For scripts that tests run:
vLLM's distributed state belongs to the process."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def single_process() -> Iterator[None]:
    """A world of one worker on the CPU."""
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.distributed import init_distributed_environment, initialize_model_parallel

    torch.accelerator.empty_cache = lambda: None  # there is none; vLLM's CPU worker does the same
    with tempfile.TemporaryDirectory() as rendezvous:
        with set_current_vllm_config(VllmConfig()):
            init_distributed_environment(1, 0, f"file://{rendezvous}/store", 0, "gloo")
            initialize_model_parallel()
        yield


def load_model(folder: str, **options: Any) -> torch.nn.Module:
    """The model class that vLLM chooses for the checkpoint, loaded."""
    from vllm.config import set_current_vllm_config
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader import get_model

    config = EngineArgs(model=folder, enforce_eager=True, **options).create_engine_config()
    with set_current_vllm_config(config):
        return get_model(vllm_config=config)
