"""What the installed vLLM has under a name: kind, signature, or that it has nothing."""

import ast
import enum
import functools
import importlib
import importlib.util
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

FLAGS = "flags of vllm serve"
"""The key of names of flags."""

# A class with more parameters than this is only held to those that we pass by name.
_MANY = 20


def member(holder: Any, name: str) -> str | None:
    """What ``holder``, a class of vLLM's, has under this name; None if nothing."""
    static = inspect.getattr_static(holder, name, None)
    if isinstance(static, classmethod | staticmethod):
        static = static.__func__
    if inspect.isfunction(static):
        return signature(static, returns=True)
    if isinstance(static, property | functools.cached_property):
        return "property"
    classes = [c for c in inspect.getmro(holder) if c.__module__.partition(".")[0] == "vllm"]
    if any(name in vars(c).get("__annotations__", {}) for c in classes):
        return "field"
    if static is not None:
        return "attribute"
    set_in = (
        rf"\bself\.{name}\b(?:: [^=\n]+)? = |\(self\.{name}\b|\bself\.{name}\b(?:, self\.\w+)+ ="
    )
    if any(re.search(set_in, _source(c)) for c in classes):
        return "instance attribute"
    return None


@functools.cache  # Python reads the whole module for it
def _source(of: Any) -> str:
    try:
        return inspect.getsource(of)
    except (OSError, TypeError):
        return ""


def signature(function: Any, returns: bool = False, passed: set[str] | None = None) -> str:
    """Names of parameters, ``=`` behind those with a default; annotation of what is returned.

    Args:
        passed: keywords in our calls: where there are many parameters, it says which are gone.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return "(?)"
    if passed is not None and len(parameters) > _MANY:
        known = {one.name for one in parameters}
        told = ["...", *(f"no {name}" for name in sorted(passed - known))]
    else:
        told, keyword_only = [], False
        for one in parameters:
            if one.kind == one.KEYWORD_ONLY and not keyword_only:
                told.append("*")
            keyword_only |= one.kind in (one.KEYWORD_ONLY, one.VAR_POSITIONAL)
            stars = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
            told.append(stars + one.name + ("" if one.default is one.empty else "="))
    text = f"({', '.join(told)})"
    unwrapped = inspect.unwrap(function)
    if inspect.iscoroutinefunction(unwrapped) or inspect.isasyncgenfunction(unwrapped):
        text = f"async {text}"
    annotation = getattr(unwrapped, "__annotations__", {}).get("return")
    if returns and annotation is not None:
        text += f" -> {annotation if isinstance(annotation, str) else _annotation(unwrapped)}"
    return text


def _annotation(function: Any) -> str:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef)
    return ast.unparse(tree.returns) if tree.returns else ""


@functools.cache
def flags_of_vllm() -> frozenset[str]:
    """Names of attributes of what its parser gives."""
    from saccade.server.engine import flags

    parser = flags.make_arg_parser(flags.make_parser())
    return frozenset(action.dest for action in parser._actions)


def describe(key: str, name: str, keywords: set[str]) -> str | None:
    """What vLLM has under a key of the table; None if nothing."""
    if key == FLAGS:
        return "flag" if name in flags_of_vllm() else None
    path, _, holder_name = key.partition(":")
    if key.startswith("text in "):
        path = key.removeprefix("text in ")
        spec = find(path)
        return "text" if spec and name in Path(str(spec.origin)).read_text("utf-8") else None
    if name == "":  # a module, or a class that is named by its path
        parent, _, last = path.rpartition(".")
        return "module" if find(path) else describe(parent, last, keywords) if parent else None
    if not find(path):
        return None
    try:
        module = importlib.import_module(path)
    except ImportError:
        return _in_source(path, name)
    if holder_name:
        holder = getattr(module, holder_name, None)
        return None if holder is None else member(holder, name)
    if path == "vllm.envs":
        return "environment variable" if name in module.environment_variables else None
    value = getattr(module, name, None)
    if value is None:
        return "module" if find(f"{path}.{name}") else None
    if inspect.ismodule(value):
        return "module"
    if inspect.isclass(value):
        # What Python makes of these differs between its versions.
        plain = issubclass(value, enum.Enum) or hasattr(value, "__total__")
        return "class" if plain else "class" + signature(value, passed=keywords)
    is_function = inspect.isfunction(inspect.unwrap(value)) if callable(value) else False
    return signature(value) if is_function else "value"


def find(module: str) -> Any:
    """Where a module is; None if there is none."""
    try:
        return importlib.util.find_spec(module)
    except ImportError:
        return None


def _in_source(path: str, name: str) -> str | None:
    """For modules that cannot be imported without a GPU or torchvision."""
    spec = find(path)
    assert spec is not None
    files = [Path(str(spec.origin))]
    if spec.submodule_search_locations:
        files += sorted(files[0].parent.glob("*.py"))
    for file in files:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
                if isinstance(node, ast.ClassDef):
                    return "class"
                given = node.args
                required = len(given.args) - len(given.defaults)
                told = [a.arg + "=" * (i >= required) for i, a in enumerate(given.args)]
                told += ["*"] * bool(given.kwonlyargs) + [a.arg for a in given.kwonlyargs]
                return f"({', '.join(told)})"
    return None
