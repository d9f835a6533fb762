"""What is imported is declared in pyproject.toml, and what is declared is imported."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import distribution, packages_distributions
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
CORE = "dependencies"
# Folders for which a group of pyproject.toml is installed.
GROUPS = {
    CORE: ("server", "model", "media", "kernels", "demo"),
    "train": ("demo",),
    "bench": ("benchmarks",),
    "test": ("tests",),
}
# Everybody has the first and one of the others, which bring vLLM. Nothing else is taken to come
# with vLLM: what it requires changes from one version to the next.
EVERYBODYS = (CORE, "cpu", "cuda")


@cache
def declared(group: str) -> frozenset[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = project[CORE] if group == CORE else project["optional-dependencies"][group]
    return frozenset(canonicalize_name(Requirement(line).name) for line in lines)


def named_in(tree: ast.AST) -> Iterator[str]:
    """The modules that code imports, or opens by their names; but not what it can do without."""
    named, optional = set[str](), set[str]()
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                named.update(alias.name for alias in node.names)
            case ast.ImportFrom(module=str(module), level=0):
                named.update(f"{module}.{alias.name}" for alias in node.names)
            case ast.Call(
                func=ast.Name(id=function) | ast.Attribute(attr=function),
                args=[ast.Constant(value=str(module)), *_],
            ):
                if function in ("import_module", "files"):
                    named.add(module)
                elif function == "find_spec":
                    optional.add(module)
    return (name for name in named if name.partition(".")[0] not in optional)


distributions = cache(packages_distributions)


def distributions_of(module: str) -> frozenset[str]:
    """The installed distributions that a module may come from; empty if it is not installed."""
    found = set(distributions().get(module.partition(".")[0], ()))
    if len(found) > 1:  # they share a namespace
        path = module.replace(".", "/")
        parents = {path, path.rpartition("/")[0]}  # the last part may be no module
        places = {f"{parent}{end}" for parent in parents for end in (".py", "/__init__.py")}
        found = {
            name
            for name in found
            if any(str(file) in places for file in distribution(name).files or ())
        }
    return frozenset(map(canonicalize_name, found))


@cache
def imported(folder: str) -> dict[str, frozenset[str]]:
    """Imported modules that are not of this project, and the distributions they may come from."""
    files = [
        file
        for file in sorted((ROOT / folder).rglob("*.py"))
        # What the other implementation needs, installed for itself, has a list there.
        if "oracle" not in file.parts
    ]
    ours = {"saccade"} | ({file.stem for file in files} if folder == "tests" else set())
    modules = {
        module
        for file in files
        for module in named_in(ast.parse(file.read_bytes()))
        if not module.startswith(".")
        and module.partition(".")[0] not in ours | sys.stdlib_module_names
    }
    return {module: distributions_of(module) for module in modules}


@pytest.mark.parametrize("folder", sorted({*chain(*GROUPS.values())}))
def test_what_is_imported_is_declared(folder: str) -> None:
    groups = {*EVERYBODYS, *(group for group, folders in GROUPS.items() if folder in folders)}
    allowed = frozenset(chain(*map(declared, groups)))
    missing = {module: names for module, names in imported(folder).items() if not names & allowed}
    assert not missing, f"{folder}/ imports them; pyproject.toml names none of it in {groups}"


@pytest.mark.parametrize("group", GROUPS)
def test_what_is_declared_is_imported(group: str) -> None:
    used = {*chain(*chain(*(imported(folder).values() for folder in GROUPS[group])))}
    commands = re.findall(r"\$\(VENV\)/([\w-]+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    run = {
        name
        for name in declared(group)
        if any(file.name in commands for file in distribution(name).files or ())
    }
    assert declared(group) - used - run == set()
