"""Whether vLLM's own parts are replaced by ours where our model is served on a CPU.

=========================  ==================================  =================================
part of vLLM               ours                                where it is put in place
=========================  ==================================  =================================
``SpinCondition.wait``     `idle_wait.block_instead_of_spin`   processes that make our model, or
                                                               its processor
``RMSNorm``, ``SiluAndMul``,
``MRotaryEmbedding``       `replaced_layers.replaced_layers`   layers of our model
worker, scheduler          `worker`, `scheduling`              ``saccade serve``, unless its flags
                                                               name others
=========================  ==================================  =================================

Processes that serve another model are left as they are, also where Saccade is installed.
"""

import os

CPU_TUNING_ENV = "SACCADE_CPU_TUNING"
"""Environment variable: ``1``, the default, or ``0``, which leaves vLLM's own parts in place."""


def cpu_tuning_enabled() -> bool:
    """Whether our model, served by this process, is tuned for a CPU.

    Raises:
        ValueError: the environment variable says something else than 0 or 1.
    """
    from vllm.platforms import current_platform

    value = os.environ.get(CPU_TUNING_ENV, "1")
    if value not in ("0", "1"):
        raise ValueError(f"{CPU_TUNING_ENV} must be 0 or 1, not {value!r}")
    return value == "1" and bool(current_platform.is_cpu())
