"""For scripts that tests run: vLLM's model classes in the current process."""

from saccade.benchmarks.common.single_process import load_model, single_process

__all__ = ["load_model", "single_process"]
