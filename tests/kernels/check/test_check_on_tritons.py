"""The GPU kit's dry run by Triton's interpreter, on the oldest and the newest Triton, from a bare
copy of the `kernels` folder beside nothing but torch, triton and numpy."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from every_triton import RELEASES, installed

from saccade import kernels

OPERATIONS = ("window_attention", "full_attention", "mrope", "patch_input", "merge_input")
KERNELS = {*OPERATIONS, "rotate_packed", "full_attention, Triton"}


def link_distributions(folder: Path, names: list[str]) -> None:
    """Links to these packages and what they require, without their extras."""
    wanted, seen = list(names), set()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # for other systems, or older Pythons
        tops = {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}
        for top in tops:
            if not (folder / top).exists():
                (folder / top).symlink_to(distribution.locate_file(top))
        for required in distribution.requires or []:
            if "extra ==" not in required:
                wanted.append(re.match(r"[\w.-]+", required)[0])


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with `saccade.kernels` alone, and one with torch and numpy."""
    code, packages = tmp_path_factory.mktemp("code"), tmp_path_factory.mktemp("packages")
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(Path(kernels.__file__).parent, code / "saccade" / "kernels", ignore=ignored)
    link_distributions(packages, ["torch", "numpy"])
    return code, packages


@pytest.mark.parametrize("version", [RELEASES[0], RELEASES[-1]])
def test_dry_run(version: str, bare: tuple[Path, Path], tmp_path: Path):
    code, packages = bare
    if importlib.metadata.version("triton") == version:
        triton = tmp_path / "triton"
        triton.mkdir()
        link_distributions(triton, ["triton"])
    else:
        triton = installed(version)
    path = os.pathsep.join(map(str, [code, triton, packages]))
    # -S: nothing of this environment's site-packages, in which everything else is.
    ended = subprocess.run(
        [sys.executable, "-S", "-m", "saccade.kernels.check", "--dry-run", "--json", "kit.json"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": path}
        | {"TRITON_INTERPRET": "1", "SACCADE_KERNELS": "triton"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = ended.stdout.splitlines()
    written = json.loads((tmp_path / "kit.json").read_text())
    assert lines[-1] == f"RESULT dry_run=1 correct=1 cases={len(written['checks'])}"
    assert sum("triton: SACCADE_KERNELS=triton" in line for line in lines) == len(OPERATIONS)
    assert any(f"triton {version}," in line for line in lines)
    assert written["versions"]["triton"] == version
    assert set(written["versions"]) == {"python", "torch", "triton", "numpy"}
    assert written["backends"]["vLLM"] == "not compared: it is not installed"
    names = {check["case"] for check in written["checks"]}
    for kernel in KERNELS:
        assert any(name.startswith(kernel) for name in names), kernel
    assert all(name.endswith(("float16", "float32")) for name in names)
