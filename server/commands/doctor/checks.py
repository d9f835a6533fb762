"""What `saccade doctor` looks at. Each check yields what it found, and what is wrong."""

import argparse
import importlib
import os
from collections.abc import Iterator
from functools import partial
from importlib.metadata import entry_points

import torch

from saccade.kernels.cache import cache_folder
from saccade.kernels.check.contenders.vllm_baseline import find_flash_attention
from saccade.kernels.cpu import build, compiled, extension
from saccade.kernels.cpu.processor import processor
from saccade.kernels.dispatch import OPERATIONS, prove_triton_kernels, select_backend
from saccade.kernels.full_attention import provide_flash_attention
from saccade.kernels.self_test import proof
from saccade.model.vllm_versions import unchecked_warning
from saccade.server.checkpoint.cpu_dtype import describe_auto
from saccade.server.commands.doctor import mends
from saccade.server.commands.doctor.kit import kit
from saccade.server.commands.doctor.problem import Check, Problem, Severity
from saccade.server.core.environment import environment
from saccade.server.core.memory import available_memory
from saccade.server.core.settings import SettingError, load_settings


def checks(model: str | None) -> tuple[tuple[str, Check], ...]:
    """(title, check) of all that apply here."""
    found: list[tuple[str, Check]] = [
        ("versions", _versions),
        ("plugin", _plugin),
        ("devices", _devices),
        ("cache", _cache),
        ("kernels", _kernels),
        ("GPU kit", kit),
        ("limits", _limits),
    ]
    if model:
        found.append(("chat template", partial(chat_template, model)))
    return tuple(found)


def _versions() -> Iterator[str | Problem]:
    versions = environment()["versions"]
    assert isinstance(versions, dict)
    for name, version in versions.items():
        yield f"{name:<14}{version}"
    broken = list(mends.broken_extensions())
    for name in broken:
        yield Problem(
            f"{name} is installed but cannot be imported beside this torch, and transformers "
            "fails with it",
            f"pip uninstall {name}",
            partial(mends.uninstall, name),
        )
    if broken:
        return  # what comes next fails for this reason
    try:
        vllm: str = importlib.import_module("vllm.version").__version__
        importlib.import_module("saccade.model.qwen2_5_vl")
    except ImportError as error:
        yield Problem(
            f"vLLM or the model class cannot be imported: {error}",
            "install Saccade with the extra cpu or cuda: docs/installing.md",
        )
        return
    if (warning := unchecked_warning(vllm)) is not None:
        yield Problem(warning, severity=Severity.NOTE)


def _plugin() -> Iterator[str | Problem]:
    found = entry_points(group="vllm.general_plugins", name="saccade")
    if not found:
        yield Problem("vLLM cannot find the plugin", "install Saccade anew: docs/installing.md")
    if os.environ.get("SACCADE_PLUGIN") == "0":
        yield Problem(
            "SACCADE_PLUGIN=0 leaves vLLM's own model class in place",
            "unset SACCADE_PLUGIN",
            severity=Severity.SLOW,
        )
    yield from (f"{entry.name} = {entry.value}" for entry in found)


def _devices() -> Iterator[str | Problem]:
    for index in range(torch.cuda.device_count()):
        yield f"cuda:{index} {torch.cuda.get_device_name(index)}"
    yield f"cpu {processor().describe()}"
    yield f"--dtype auto on the CPU: {describe_auto(processor(), available_memory())}"


def _cache() -> Iterator[str | Problem]:
    try:
        folder = cache_folder()
    except OSError as error:
        yield Problem(str(error), "set XDG_CACHE_HOME to a folder", severity=Severity.SLOW)
        return
    yield str(folder) if folder.is_dir() else f"{folder}, made when it is needed"
    if folder.is_dir() and folder.stat().st_mode & 0o022:
        yield Problem(
            f"others may write {folder}: nothing compiled is loaded from it",
            f"chmod 700 {folder}",
            mends.make_cache,
            Severity.SLOW,
        )
    if files := build.unfinished_files():
        yield Problem(
            f"a compiler that was killed left {', '.join(map(str, files))}",
            f"rm {' '.join(map(str, files))}",
            mends.remove_unfinished,
            Severity.NOTE,
        )


def _kernels() -> Iterator[str | Problem]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        provide_flash_attention(find_flash_attention)
        # The interpreter is right in float32 alone.
        prove_triton_kernels(device, torch.bfloat16 if device == "cuda" else torch.float32)
        chosen = {operation: select_backend(operation, device) for operation in OPERATIONS}
        for operation, (backend, reason) in chosen.items():
            yield f"{operation:<18}{backend:<11}{reason}"
        on_cpu = extension.load()
        yield f"{'on the CPU':<18}{on_cpu.reason}"
        yield from compiled.prove(pixels_only=chosen["mrope"].backend != "cpu")
    except ValueError as error:
        yield Problem(str(error), "unset SACCADE_KERNELS")
        return
    if on_cpu.operations is None:
        yield Problem(
            f"the operations on the CPU are {on_cpu.reason.partition(':')[0]}, and PyTorch's are "
            "slower",
            f"saccade doctor --fix, or python -m {build.__name__} (a C++ compiler is needed: "
            "apt-get install g++ libjpeg-dev)",
            mends.compile_operations,
            Severity.SLOW,
        )
    elif on_cpu.decode_resized_jpeg is None and "AVX2" in processor().features:
        yield Problem(
            "JPEGs are resized after they are decoded, not while: that was compiled without the "
            "headers of libjpeg-turbo",
            "apt-get install libjpeg-dev, then saccade doctor --fix",
            mends.compile_operations,
            Severity.SLOW,
        )
    if failures := proof.failures():
        names = ", ".join(sorted({one.operation for one in failures}))
        yield Problem(
            f"out of use: {names}; the server takes slower backends in their place",
            "saccade doctor --fix builds the compiled ones anew; if it stays so, report what "
            "saccade doctor --verbose says",
            mends.compile_operations
            if any(one.backend == "compiled" for one in failures)
            else None,
        )


def _limits() -> Iterator[str | Problem]:
    try:
        settings = load_settings(argparse.Namespace())
    except SettingError as error:
        name = str(error).partition(":")[0]
        yield Problem(str(error), f"set {name} to what `saccade serve --help=Saccade` allows")
        return
    for name, value in settings.model_dump(exclude={"api_key"}).items():
        yield f"{name:<24}{value}"


def chat_template(model: str) -> Iterator[str | Problem]:
    """Which templates a checkpoint gets, and what they lack."""
    from saccade.server.engine.prompt.checkpoint_templates import read_model_templates

    try:
        templates = read_model_templates(model)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        yield Problem(f"cannot read the model {model!r}: {reason}", "--model names a checkpoint")
        return
    yield templates.report()
