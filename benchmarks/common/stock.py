"""vLLM as it is without Saccade, to compare with: its environment.

vLLM's own Qwen2.5-VL needs torchvision. Where that cannot be imported (PyPI's is a CUDA build), a
checkout has one that works in processes which ask for it, in `.oracle`.
"""

import os
import subprocess
import sys
from pathlib import Path

from saccade.server.commands.child import ServerProcess

SAMPLING_FLAG = '--media-io-kwargs={"video": {"fps": 2.0}}'
"""Two frames a second, as Qwen2.5-VL's reference; unless it is told, stock vLLM takes 32 of any."""

_ROOT = Path(__file__).resolve().parents[2]
_BESIDE = (_ROOT / ".oracle", _ROOT / "tests" / "oracle")


class NoStock(Exception):
    """vLLM's own Qwen2.5-VL cannot run here."""


class StockServer(ServerProcess):
    """vLLM's own server on a checkpoint folder.

    Raises on entering:
        NoStock: vLLM's own Qwen2.5-VL cannot run here.
    """

    ready_path = "/health"

    def command(self, model: str) -> list[str]:
        module = "vllm.entrypoints.openai.api_server"
        return [sys.executable, "-m", module, f"--model={model}", "--served-model-name=demo"]

    def environment(self) -> dict[str, str]:
        return stock_environment()


def stock_environment() -> dict[str, str]:
    """Variables for a process in which vLLM has its own Qwen2.5-VL and nothing of ours.

    Raises:
        NoStock: there is no torchvision that works.
    """
    plain = {**os.environ, "SACCADE_PLUGIN": "0"}
    beside = {**plain, "PYTHONPATH": os.pathsep.join(map(str, _BESIDE))}
    for environment in (plain, beside):
        tried = subprocess.run(
            [sys.executable, "-c", "import torchvision"], env=environment, capture_output=True
        )
        if tried.returncode == 0:
            return environment
    raise NoStock(
        "vLLM's own Qwen2.5-VL needs torchvision, which cannot be imported; make setup brings one"
    )
