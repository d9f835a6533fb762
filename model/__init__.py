"""The vLLM plugin: Saccade's Qwen2.5-VL in place of vLLM's own, wherever it is installed."""

import os

ARCHITECTURE = "Qwen2_5_VLForConditionalGeneration"


def register() -> None:
    """Entry point ``vllm.general_plugins``; vLLM calls it in every one of its processes.

    Registers by name only, so nothing heavy is imported, no device is touched and nothing of vLLM
    changes for other models, and may be called any number of times. A vLLM of an unchecked version
    is named in one line of the log. ``SACCADE_PLUGIN=0`` leaves vLLM's own model in place.
    """
    if os.environ.get("SACCADE_PLUGIN", "1") == "0":
        return
    from vllm import ModelRegistry, __version__

    from saccade.model.vllm_versions import warn_if_unchecked

    ModelRegistry.register_model(ARCHITECTURE, "saccade.model.qwen2_5_vl:SaccadeQwen2_5_VL")
    warn_if_unchecked(__version__)
