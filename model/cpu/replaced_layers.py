"""Substitutes our layers for vLLM's while our model is built, and for no other model.

Writes to vLLM's private registries `op_registry_oot` and `_ROPE_DICT`: substitution per model
would make this unnecessary.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from vllm.model_executor.custom_op import op_registry_oot
from vllm.model_executor.layers.rotary_embedding import _ROPE_DICT
from vllm.platforms import current_platform

from saccade.model.cpu.layers import OnePassRMSNorm, OnePassSiluAndMul
from saccade.model.cpu.tuning import cpu_tuning_enabled
from saccade.model.rotary import OneLaunchMRotaryEmbedding


@contextmanager
def replaced_layers() -> Iterator[None]:
    """Within, vLLM makes ours where a model asks for a layer of its own.

    It has no other means than its registry of the process, where they would stay for every model
    that is made later.
    """
    ours = {}
    if cpu_tuning_enabled():
        ours = {layer.name: layer for layer in (OnePassRMSNorm, OnePassSiluAndMul)}
    if ours or not current_platform.is_cpu():
        ours[OneLaunchMRotaryEmbedding.name] = OneLaunchMRotaryEmbedding
    before, rotary_before = dict(op_registry_oot), dict(_ROPE_DICT)
    op_registry_oot.update(ours)
    _ROPE_DICT.clear()  # vLLM keeps rotary layers for models that ask for the same
    try:
        yield
    finally:
        for registry, kept in ((op_registry_oot, before), (_ROPE_DICT, rotary_before)):
            registry.clear()
            registry.update(kept)
