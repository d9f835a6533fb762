"""vLLM's model classes in the current process, without an engine. For processes that do nothing
else: vLLM's distributed state belongs to the process."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def single_process() -> Iterator[None]:
    """A world of one worker, on the device that vLLM runs on here."""
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.distributed import init_distributed_environment, initialize_model_parallel
    from vllm.platforms import current_platform

    if current_platform.is_cpu():  # there is none; vLLM's CPU worker does the same
        torch.accelerator.empty_cache = lambda: None
    with tempfile.TemporaryDirectory() as rendezvous:
        with set_current_vllm_config(VllmConfig()):
            address = f"file://{rendezvous}/store"
            init_distributed_environment(1, 0, address, 0, current_platform.dist_backend)
            initialize_model_parallel()
        yield


def load_model(folder: str, **options: Any) -> Any:
    """The model class that vLLM chooses for the checkpoint, loaded."""
    from vllm.config import set_current_vllm_config
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader import get_model

    config = EngineArgs(model=folder, enforce_eager=True, **options).create_engine_config()
    with set_current_vllm_config(config):
        return get_model(vllm_config=config)
