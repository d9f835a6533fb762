"""vLLM's model runner V2 on a CPU: its Triton kernels run by Triton's interpreter.

On CUDA it is vLLM's default; on a CPU it needs a Triton with a CPU back end, which there is none of
on the package index. Checked on vLLM 0.32.0 and Triton 3.9.0.
"""

import os
import types
from typing import Any

import torch


class _CpuDriver:
    """What Triton and vLLM ask of a driver; kernels that are interpreted ask for nothing else."""

    @staticmethod
    def is_active() -> bool:
        return True

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cpu", 0, 1)

    def get_current_device(self) -> int:
        return 0

    def set_current_device(self, device: int) -> None:
        pass

    def get_current_stream(self, device: int | None = None) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def get_device_interface(self) -> Any:
        return torch.cpu


def interpret_runner_v2() -> None:
    """Makes engines of this process use runner V2. Before vLLM is imported, in a process that does
    nothing else: vLLM replaces functions of torch for it.

    Raises:
        RuntimeError: ``TRITON_INTERPRET=1`` was not in the environment.
    """
    if os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError("model runner V2 needs TRITON_INTERPRET=1 on a CPU")
    import triton.backends
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    triton.backends.backends.clear()
    triton.backends.backends["cpu"] = types.SimpleNamespace(driver=_CpuDriver, compiler=None)

    # vLLM's kernels mask with integers here and there, which a compiler converts; the interpreter
    # hands masks to a function that takes booleans only.
    def as_bool(mask: TensorHandle) -> TensorHandle:
        return TensorHandle(mask.data.astype(bool), mask.dtype)

    load, store = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store
    InterpreterBuilder.create_masked_load = lambda self, pointers, mask, *rest: load(
        self, pointers, as_bool(mask), *rest
    )
    InterpreterBuilder.create_masked_store = lambda self, pointers, value, mask, *rest: store(
        self, pointers, value, as_bool(mask), *rest
    )
    os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "1"

    # The kernel that cuts off at top_k and top_p uses the number of a loop as a tensor, which it is
    # to a compiler only. Sampling is not what our model could do wrong.
    from vllm.v1.sample.ops import topk_topp_sampler as cut

    cut.apply_top_k_top_p_triton = lambda logits, k, p, **hints: cut.apply_top_k_top_p_pytorch(
        logits, k, p, allow_cpu_sync=True
    )


def schedule_asynchronously() -> None:
    """Lets engines of this process schedule a step before the one before has ended, as vLLM does on
    CUDA and switches off on CPUs."""
    from vllm.platforms.cpu import CpuPlatform

    inner = CpuPlatform.check_and_update_config.__func__

    def check_and_update_config(cls: Any, vllm_config: Any) -> None:
        inner(cls, vllm_config)
        vllm_config.scheduler_config.async_scheduling = True

    CpuPlatform.check_and_update_config = classmethod(check_and_update_config)
