"""The installed package, seen from outside: no vLLM needed."""

import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(code: str, folder: Path, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def test_subpackages_live_in_the_namespace(tmp_path: Path) -> None:
    names = ("benchmarks", "demo", "kernels", "media", "model", "server")
    run("; ".join(f"import saccade.{name}" for name in names), tmp_path)


def test_every_folder_with_code_is_a_package_that_is_installed() -> None:
    # Without an __init__.py nothing checks its imports either.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    setuptools = project["tool"]["setuptools"]
    code = [
        file for top in setuptools["package-dir"].values() for file in (ROOT / top).rglob("*.py")
    ]
    folders = {file.parent for file in code}
    assert folders == {file.parent for file in code if file.name == "__init__.py"}
    names = {".".join(("saccade", *folder.relative_to(ROOT).parts)) for folder in folders}
    assert names <= set(setuptools["packages"])


def test_the_playground_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["saccade.server"]
    installed = {file for pattern in patterns for file in (ROOT / "server").glob(pattern)}
    assert {*(ROOT / "server" / "playground").rglob("*")} == installed != set()


def test_bare_names_are_not_taken(tmp_path: Path) -> None:
    # transformers looks up a top-level `kernels`; ours must not be found there.
    code = "import importlib.util as u; print(u.find_spec('kernels'), u.find_spec('media'))"
    assert run(code, tmp_path) == "None None"


def test_entry_point_registers_cheaply(tmp_path: Path) -> None:
    (entry,) = (e for e in entry_points(group="vllm.general_plugins") if e.name == "saccade")
    assert entry.value == "saccade.model:register"
    code = "import sys, saccade.model; print('torch' in sys.modules, 'vllm' in sys.modules)"
    assert run(code, tmp_path) == "False False"


def test_switched_off_it_imports_nothing(tmp_path: Path) -> None:
    code = "import sys, saccade.model; saccade.model.register(); print('vllm' in sys.modules)"
    assert run(code, tmp_path, SACCADE_PLUGIN="0") == "False"
