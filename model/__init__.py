"""The vLLM plugin: Saccade's Qwen2.5-VL in place of vLLM's own, wherever it is installed."""

import os

ARCHITECTURE = "Qwen2_5_VLForConditionalGeneration"


def register() -> None:
    """Entry point ``vllm.general_plugins``; vLLM calls it in every one of its processes.

    Registers by name only, so nothing heavy is imported and no device is touched, and may be
    called any number of times. ``SACCADE_PLUGIN=0`` leaves vLLM's own model in place.
    """
    if os.environ.get("SACCADE_PLUGIN", "1") == "0":
        return
    from vllm import ModelRegistry

    from saccade.model.waiting import sleep_until_noticed

    ModelRegistry.register_model(ARCHITECTURE, "saccade.model.qwen2_5_vl:SaccadeQwen2_5_VL")
    sleep_until_noticed()
