"""Measures the layout of a checkout: folders, lines, imports between groups, the line to vLLM.

    python tests/support/measures/rooms.py [CHECKOUT]    this one, if none is named

Reads sources only and imports nothing of theirs. Counted are Python, C++ and header files of the
product's packages. Imports within functions and for type checking count like others; modules that
are named in strings do not.
"""

import argparse
import ast
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePath

PACKAGES = ("server", "model", "media", "kernels", "benchmarks", "demo")
SOURCES = (".py", ".cpp", ".h")
# Where vLLM's unstable insides may be imported: behind the line, and by what is compared with them.
VLLM_LINE = ("server/engine/", "model/compat/", "model/cpu/", "kernels/check/contenders/vllm.py")
# vLLM's interface for authors of models, as modules or names below `vllm`; for `model/` alone.
VLLM_INTERFACE = (
    "ModelRegistry",
    "__version__",
    "config.VllmConfig",
    "distributed",
    "model_executor.layers",
    "model_executor.models.interfaces",
    "model_executor.models.module_mapping",
    "model_executor.models.utils",
    "multimodal.MULTIMODAL_REGISTRY",
    "multimodal.inputs",
    "multimodal.parse",
    "multimodal.processing",
    "platforms.current_platform",
    "sequence.IntermediateTensors",
)
MOST_FILES = 12

Edges = dict[str, dict[str, set[str]]]  # importing group, imported group: places
ROOT = next(path for path in Path(__file__).parents if (path / "pyproject.toml").exists())


class Checkout:
    """The sources of the product's packages in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = sorted(
            file.relative_to(root)
            for package in PACKAGES
            for file in (root / package).rglob("*")
            if file.suffix in SOURCES
        )
        self._trees = {
            file: ast.parse((root / file).read_text("utf-8"))
            for file in self.files
            if file.suffix == ".py"
        }
        self._modules = {_module(file): file for file in self._trees}

    def lines(self, file: Path) -> int:
        """Lines of a file, blank ones and comments included."""
        return len((self.root / file).read_text("utf-8").splitlines())

    def imports(self) -> Iterator[tuple[Path, int, str]]:
        """Importing file, line and the dotted name of what is imported, for every import."""
        for file, tree in self._trees.items():
            package = _module(file).split(".")[: None if file.name == "__init__.py" else -1]
            for node in ast.walk(tree):
                if isinstance(node, ast.Import):
                    for alias in node.names:
                        yield file, node.lineno, alias.name
                elif isinstance(node, ast.ImportFrom):
                    above = package[: len(package) - node.level + 1] if node.level else []
                    for alias in node.names:
                        parts = [*above, *filter(None, [node.module]), alias.name]
                        yield file, node.lineno, ".".join(parts)

    def edges(self, group: Callable[[Path], str | None]) -> Edges:
        """Which group imports which other, and where; files of no group are passed over."""
        found: Edges = defaultdict(lambda: defaultdict(set))
        for file, line, name in self.imports():
            target = self._modules.get(name) or self._modules.get(name.rpartition(".")[0])
            if target is None:
                continue
            importing, imported = group(file), group(target)
            if importing and imported and importing != imported:
                found[importing][imported].add(f"{file}:{line}")
        return found


def _module(file: PurePath) -> str:
    parts = ("saccade", *file.with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(file: Path) -> str:
    return file.parts[0]


def server_group(file: Path) -> str | None:
    """The folder right below server/; a file that lies there is a group by itself."""
    in_server = file.parts[0] == "server" and file.name != "__init__.py"
    return PurePath(file.parts[1]).stem if in_server else None


def circle(edges: Mapping[str, Mapping[str, object]]) -> list[str]:
    """Groups that import each other in a ring; empty if there is none."""
    try:
        TopologicalSorter({name: list(targets) for name, targets in edges.items()}).prepare()
    except CycleError as error:
        return [str(name) for name in reversed(error.args[1])]
    return []


def show_folders(checkout: Checkout) -> None:
    """Files and lines by folder."""
    files = Counter(str(file.parent) for file in checkout.files if file.name != "__init__.py")
    large = sum(number > MOST_FILES for number in files.values())
    print(f"{len(files)} folders, {large} with more than {MOST_FILES} files but __init__.py:")
    for folder, number in files.most_common(12):
        print(f"  {number:>6}  {folder}/")
    lines = Counter[str]()
    for file in checkout.files:
        lines[package_of(file)] += checkout.lines(file)
    print(f"{lines.total()} lines in {len(checkout.files)} files:")
    for package, number in lines.most_common():
        print(f"  {number:>6}  {package}/")


def show_edges(told: str, edges: Edges, at_most: int) -> None:
    """Imports between groups; each where there are few."""
    groups = edges.keys() | {name for targets in edges.values() for name in targets}
    number = sum(map(len, edges.values()))
    ring = " -> ".join(circle(edges)) or "none"
    print(f"{told}: {len(groups)} groups, {number} edges, circle: {ring}")
    if number <= at_most:
        for name, targets in sorted(edges.items()):
            print(f"  {name} -> {', '.join(sorted(targets))}")


def _is_interface(name: str) -> bool:
    below = name.removeprefix("vllm.")
    return any(f"{below}.".startswith(f"{part}.") for part in VLLM_INTERFACE)


def show_vllm(checkout: Checkout) -> None:
    """What is imported from vLLM outside of the line."""
    outside: dict[str, set[str]] = defaultdict(set)
    for file, _, name in checkout.imports():
        if name.partition(".")[0] != "vllm" or file.as_posix().startswith(VLLM_LINE):
            continue
        if not (package_of(file) == "model" and _is_interface(name)):
            outside[str(file)].add(name)
    number = sum(map(len, outside.values()))
    print(f"vLLM outside of {', '.join(VLLM_LINE)}: {number} names in {len(outside)} files")
    for path, names in sorted(outside.items()):
        print(f"  {path}: {len(names)}")
        for name in sorted(names):
            print(f"    {name}")


def main() -> None:
    """Prints all measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", nargs="?", type=Path, default=ROOT)
    checkout = Checkout(parser.parse_args().checkout)
    show_folders(checkout)
    show_edges("packages", checkout.edges(package_of), 30)
    show_edges("groups in server/", checkout.edges(server_group), 50)
    show_vllm(checkout)


if __name__ == "__main__":
    main()
