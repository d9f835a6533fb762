"""What an installer would choose for another machine, from package metadata alone.

uv reads the metadata that the index serves beside each wheel (PEP 658): kilobytes instead of the
gigabytes of the wheels, for any platform and Python. It sees neither pip's configuration nor local
folders of wheels, so a CPU build of torch that lies on this machine is not taken for a GPU's.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

import uv

ROOT = Path(__file__).parents[3]
# Debian 11, Ubuntu 20.04 and younger. vLLM's own wheels want less (2.28), those of llguidance,
# which it requires, do not.
CUDA_MACHINE = "x86_64-manylinux_2_31"
TIMEOUT = 300  # seconds; with a cold cache and a slow index a resolution takes some twenty


class UnresolvableError(Exception):
    """No set of versions satisfies the requirements; uv's explanation."""


class IndexUnreachableError(Exception):
    """The package index did not answer, so that nothing is known of the requirements."""


def resolve(
    requirements: Iterable[str],
    *,
    python: str,
    constraints: Iterable[str] = (),
    platform: str = CUDA_MACHINE,
) -> dict[str, str]:
    """Name to version of everything that would be installed, wheels only.

    Args:
        requirements: As in a requirements file.
        python: Version of the interpreter to install for, such as ``3.12``.
        constraints: As in a constraints file.
        platform: uv's name of the operating system, processor and C library.

    Raises:
        UnresolvableError: there is no such set.
        IndexUnreachableError: the package index could not be asked.
    """
    with tempfile.TemporaryDirectory() as folder:
        constraint_file = Path(folder, "constraints.txt")
        constraint_file.write_text("\n".join(constraints), encoding="utf-8")
        command = [
            *(uv.find_uv_bin(), "pip", "compile", "-", "--quiet", "--color=never"),
            *("--no-header", "--no-annotate", "--only-binary=:all:"),
            *("--python", sys.executable),  # or it looks for others to take its questions
            *("--python-platform", platform, "--python-version", python),
            *("--constraint", str(constraint_file)),
        ]
        try:
            finished = subprocess.run(
                command,
                cwd=folder,
                input="\n".join(requirements),
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
            )
        except subprocess.TimeoutExpired as error:
            raise IndexUnreachableError(f"the package index took more than {TIMEOUT} s") from error
    if finished.returncode == 1 and "No solution found" in finished.stderr:
        raise UnresolvableError(finished.stderr)
    if finished.returncode != 0:
        raise IndexUnreachableError(f"the package index could not be asked:\n{finished.stderr}")
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", finished.stdout, re.MULTILINE))


def project() -> dict:
    """The ``[project]`` table of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def project_requirements(*extras: str) -> list[str]:
    """What the package requires, with these extras."""
    table = project()
    return [
        *table["dependencies"],
        *(one for extra in extras for one in table["optional-dependencies"][extra]),
    ]
