"""Modules of kernels with one deliberate mistake, made by replacing a piece of their source."""

import importlib.util
import sys
from itertools import count
from pathlib import Path
from types import ModuleType

import saccade.kernels

_numbers = count()


def load_mutant(module_name: str, old: str, new: str, folder: Path) -> ModuleType:
    """The module of `saccade.kernels` with ``old`` replaced by ``new``.

    Args:
        folder: Where to put its source, which Triton reads.

    Raises:
        ValueError: ``old`` does not occur exactly once; the mutant might be the original.
    """
    (package,) = saccade.kernels.__path__
    source = (Path(package) / f"{module_name}.py").read_text()
    if source.count(old) != 1 or old == new:
        raise ValueError(f"{old!r} occurs {source.count(old)} times in {module_name}")
    name = f"{module_name}_mutant{next(_numbers)}"
    mutant = source.replace(old, new)
    path = folder / f"{name}.py"
    path.write_text(mutant)
    spec = importlib.util.spec_from_file_location(f"saccade.kernels.{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
