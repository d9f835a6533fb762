"""`saccade doctor`: versions, devices, the backend of each kernel and why, whether it is right,
limits in force.

Exits with 1 when something would keep the server from starting, and says how to mend it.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import entry_points

import torch

from saccade.kernels.check.contenders.vllm_baseline import find_flash_attention
from saccade.kernels.cpu import build, compiled, extension
from saccade.kernels.cpu.processor import processor
from saccade.kernels.dispatch import OPERATIONS, prove_triton_kernels, select_backend
from saccade.kernels.full_attention import provide_flash_attention
from saccade.kernels.self_test import proof
from saccade.model.vllm_versions import unchecked_warning
from saccade.server.checkpoint.cpu_dtype import describe_auto
from saccade.server.checkpoint.lookup import find_checkpoint
from saccade.server.core.environment import environment
from saccade.server.core.memory import available_memory
from saccade.server.core.settings import SettingError, load_settings

_EPILOG = """examples:
  saccade doctor
  saccade doctor --model Qwen/Qwen2.5-VL-7B-Instruct
  SACCADE_KERNELS=reference saccade doctor

exit codes: 0 all is well, 1 something must be mended, 2 wrong use, or no such model
"""


class Ailment(Exception):
    """One line: what is wrong, and how to mend it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's flags."""
    parser.description = "Tells what this installation will do, and what is wrong with it."
    parser.epilog = _EPILOG
    parser.add_argument(
        "--model",
        help="a Hugging Face id, a local folder, or demo: also tell which chat template it gets",
    )


def run(args: argparse.Namespace) -> int:
    """Print everything; returns the exit code."""
    if args.model not in (None, "demo"):
        try:
            find_checkpoint(args.model, weights=False)
        except ValueError as error:
            print(f"saccade doctor: error: --model: {error}", file=sys.stderr)
            return 2
    ailments = []
    examinations = [*_EXAMINATIONS]
    if args.model:
        examinations.append(("chat template", partial(_chat_template, args.model)))
    for title, examine in examinations:
        print(title)
        try:
            for line in examine():
                print(f"  {line}")
        except Ailment as ailment:
            ailments.append(ailment)
            print(f"  WRONG: {ailment}")
    print("all is well" if not ailments else f"{len(ailments)} to mend")
    return 1 if ailments else 0


def _versions() -> Iterator[str]:
    versions = environment()["versions"]
    assert isinstance(versions, dict)
    for name, version in versions.items():
        yield f"{name:<14}{version}"
    try:
        vllm: str = importlib.import_module("vllm.version").__version__
        importlib.import_module("saccade.model.qwen2_5_vl")
    except ImportError as error:
        raise Ailment(
            f"vLLM or the model class cannot be imported ({error}); install the extra cpu or cuda, "
            "and remove a torchvision that does not fit this torch: pip uninstall torchvision"
        ) from error
    if (warning := unchecked_warning(vllm)) is not None:
        yield f"NOTE: {warning}"


def _plugin() -> Iterator[str]:
    found = entry_points(group="vllm.general_plugins", name="saccade")
    if not found:
        raise Ailment("vLLM cannot find the plugin; install the package: pip install saccade")
    yield from (f"{entry.name} = {entry.value}" for entry in found)


def _devices() -> Iterator[str]:
    for index in range(torch.cuda.device_count()):
        yield f"cuda:{index} {torch.cuda.get_device_name(index)}"
    yield f"cpu {processor().describe()}"
    yield f"--dtype auto on the CPU: {describe_auto(processor(), available_memory())}"


def _kernels() -> Iterator[str]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        provide_flash_attention(find_flash_attention)
        # The interpreter is right in float32 alone.
        prove_triton_kernels(device, torch.bfloat16 if device == "cuda" else torch.float32)
        chosen = {operation: select_backend(operation, device) for operation in OPERATIONS}
        for operation, (backend, reason) in chosen.items():
            yield f"{operation:<18}{backend:<11}{reason}"
        yield f"{'on the CPU':<18}{extension.load().reason}"
        yield from compiled.prove(pixels_only=chosen["mrope"].backend != "cpu")
    except ValueError as error:
        raise Ailment(str(error)) from error
    if failures := proof.failures():
        raise Ailment(
            f"out of use: {', '.join(sorted({one.operation for one in failures}))}; the server "
            "takes slower backends in their place. Build the compiled ones anew (rm "
            f"{build.pattern()}; python -m {build.__name__}); if it stays so, "
            "report the lines above"
        )


def _limits() -> Iterator[str]:
    try:
        settings = load_settings(argparse.Namespace())
    except SettingError as error:
        raise Ailment(str(error)) from error
    for name, value in settings.model_dump(exclude={"api_key"}).items():
        yield f"{name:<24}{value}"


def _chat_template(model: str) -> Iterator[str]:
    from saccade.server.engine.prompt.checkpoint_templates import read_model_templates

    try:
        templates = read_model_templates(model)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise Ailment(f"cannot read the model {model!r}: {reason}") from None
    yield templates.report()


_EXAMINATIONS: tuple[tuple[str, Callable[[], Iterator[str]]], ...] = (
    ("versions", _versions),
    ("plugin", _plugin),
    ("devices", _devices),
    ("kernels", _kernels),
    ("limits", _limits),
)
