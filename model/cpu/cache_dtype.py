"""Which dtypes of the KV cache vLLM's attention on a CPU computes with rightly.

It writes keys and values as the model's dtype, or quantised to fp8, into a cache of whatever dtype
it is given, and never looks at that. Checked on vLLM 0.32.0: greedy answers of the bundled
checkpoint under every value of ``--kv-cache-dtype`` with every dtype, beside those under ``auto``.

=====================================  ==================================  ======================
``--kv-cache-dtype``                   model in float32                    in bfloat16 or float16
=====================================  ==================================  ======================
``auto``                               right                               right
``float16``, ``bfloat16``              wrong answers                       the same bits as auto
``fp8``, ``fp8_e4m3``, ``fp8_e5m2``    right, to within the quantisation   likewise
all others                             wrong answers                       wrong answers
=====================================  ==================================  ======================
"""

import torch

from saccade.kernels.cpu.processor import processor

_HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def refuse_cache_dtype(cache_dtype: str, dtype: torch.dtype) -> None:
    """Refuses what a CPU would answer wrongly with, or not at all.

    Args:
        cache_dtype: as ``--kv-cache-dtype`` takes it.
        dtype: the model's.

    Raises:
        ValueError: one line that names the flag and the mend.
    """
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    right = list(CPUAttentionBackend.supported_kv_cache_dtypes)
    if dtype in _HALF.values():
        right += _HALF
    if cache_dtype not in right:
        beside = f" beside --dtype {str(dtype).removeprefix('torch.')}"
        raise ValueError(
            f"--kv-cache-dtype {cache_dtype} is not supported on a CPU"
            f"{beside if cache_dtype in _HALF else ''}, where vLLM would answer wrongly: it takes "
            f"{', '.join(right)}"
        )
    if cache_dtype.startswith("fp8") and not processor().features & {"AVX512", "AMX-BF16"}:
        raise ValueError(
            f"--kv-cache-dtype {cache_dtype} needs a CPU with AVX-512 or AMX: leave it out"
        )
