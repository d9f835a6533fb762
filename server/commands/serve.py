"""`saccade serve`: from the command line to a running server, and to its end."""

import argparse
import gc
import logging
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import uvloop
from pydantic import ValidationError

from saccade.kernels.cache import make_cache_folder
from saccade.kernels.cpu import build
from saccade.server.api.app import build_app
from saccade.server.checkpoint.bundled import DEMO, bundled_checkpoint
from saccade.server.checkpoint.cpu_dtype import choose_dtype
from saccade.server.checkpoint.lookup import HubFailed
from saccade.server.core.settings import (
    SettingError,
    Settings,
    add_settings_arguments,
    load_settings,
)
from saccade.server.core.tracing import configure_tracing
from saccade.server.engine import flags, launch
from saccade.server.engine.api_processes import EngineFailed, serve_in_processes
from saccade.server.engine.cpu_flags import check_cpu_engine
from saccade.server.engine.warm_up import WarmUpFailed
from saccade.server.flow.services import make_services

_logger = logging.getLogger(__name__)

# For gc.set_threshold: a request leaves reference cycles of vLLM's, which a scan of the youngest
# generation finds in 2 ms. Older generations are scanned rarely: a scan takes up to 60 ms, in which
# no other request gets on.
_GARBAGE = (700, 200, 10)

_EPILOG = """examples:
  saccade serve demo --port 8000
  saccade serve Qwen/Qwen2.5-VL-7B-Instruct --max-model-len 32768
  saccade serve ./checkpoint --media-root ./media --api-key "$KEY"
  saccade serve --help=all            every flag, vLLM's too
  saccade serve --help=Saccade        media, limits and shutdown

exit codes: 0 stopped by a signal, 1 failed to start or the engine died, 2 a flag or setting is
wrong, 130 interrupted before the server was up
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser that `add_arguments` expects: vLLM's flags need vLLM's kind."""
    return flags.make_parser()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds vLLM's flags and Saccade's."""
    parser.description = (
        "Serves a Qwen2.5-VL model: a Hugging Face id, a local folder, or 'demo' for the "
        "bundled checkpoint."
    )
    parser.epilog = _EPILOG
    flags.add_engine_arguments(parser)
    add_settings_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Serves until a signal comes. Returns the exit code."""
    try:
        settings = load_settings(args)
        _choose_model(args)
        configure_tracing(args)
        flags.prepare_arguments(args)
        config = flags.check_model(args)
        if flags.runs_on_cpu():
            choose_dtype(args, config)
            check_cpu_engine(args, config)
    except (SettingError, ValueError) as error:
        return _fail(str(error), 2)
    signal.signal(signal.SIGTERM, _interrupt)  # until the server has its own handler
    with ExitStack() as until_it_ends:
        if args.model_tag == str(bundled_checkpoint()) and settings.files_dir is None:
            folder = until_it_ends.enter_context(tempfile.TemporaryDirectory(prefix="saccade-"))
            settings = settings.model_copy(update={"files_dir": Path(folder)})
        return _run(args, settings)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    try:
        _compile_operations()
        if (args.api_server_count or 1) > 1:
            serve_in_processes(args, partial(_work, settings), settings.drain_timeout)
            return 0
        with launch.bound_socket(args) as sock:
            return uvloop.run(_serve(args, settings, sock))
    except KeyboardInterrupt:
        return 130
    except EngineFailed as error:
        return _fail(str(error), 1)
    except (WarmUpFailed, HubFailed) as error:
        return _fail(f"the server did not start: {error}", 1)
    except OSError as error:
        reason = error.strerror or error
        return _fail(f"cannot listen on --host {args.host} --port {args.port}: {reason}", 1)
    except ValidationError as error:  # by vLLM, of flags that do not go together
        return _fail(flags.describe_invalid(error), 2)
    except Exception as error:
        traceback.print_exc()
        return _fail(f"the server did not start: {error}", 1)


def _work(
    settings: Settings,
    engines: Sequence[int],
    _: str,
    sock: object,
    args: argparse.Namespace,
    shared: dict[str, Any],
) -> None:
    """One of several API processes."""
    signal.signal(signal.SIGTERM, _interrupt)
    flags.configure_logging(args)
    try:
        sys.exit(uvloop.run(_serve(args, settings, sock, shared, engines)))
    except KeyboardInterrupt:
        sys.exit(0)  # the first process knows
    except (WarmUpFailed, HubFailed) as error:
        sys.exit(_fail(f"the server did not start: {error}", 1))


async def _serve(
    args: argparse.Namespace,
    settings: Settings,
    sock: object,
    shared: dict[str, Any] | None = None,
    engines: Sequence[int] | None = None,
) -> int:
    loads = (shared.pop("api_server_loads"), shared["client_index"]) if shared else None
    async with launch.running_engine(args, shared, engines) as engine:
        services = make_services(engine, settings, args.api_server_count or 1)
        app = build_app(services, args, _api_keys(args, settings), settings.playground)
        await engine.attach(app)
        if settings.warm_up:
            await engine.warm_up()
        gc.set_threshold(*_GARBAGE)
        try:
            await launch.serve_until_stopped(app, args, sock, loads)
        finally:
            await services.loader.close()
        return 1 if engine.dead else 0


def _compile_operations() -> None:
    """The first start on a processor compiles the operations on the CPU, as set-up would have."""
    if build.library().exists():
        return
    _logger.info(
        "compiling the operations on the CPU for this processor, once: about half a minute"
    )
    try:
        file = build.build(make_cache_folder())
    except (OSError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        _logger.warning("they are missing, and PyTorch's are slower: %s; saccade doctor", reason)
    else:
        _logger.info("compiled: %s", file)


def _choose_model(args: argparse.Namespace) -> None:
    if args.model_tag is None:
        raise ValueError("name a model: saccade serve MODEL, for example saccade serve demo")
    args.model = args.model_tag
    if args.model_tag != DEMO:
        return
    args.model = args.model_tag = str(bundled_checkpoint())
    args.served_model_name = args.served_model_name or [DEMO]
    # Compiling would take longer than all that the demo ever computes, and so would filling
    # vLLM's 4 GiB of CPU cache.
    args.enforce_eager = True
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    # In bfloat16 its digits often tie, and this processor's order of sums would decide.
    if args.dtype == "auto" and flags.runs_on_cpu():
        args.dtype = "float32"


def _api_keys(args: argparse.Namespace, settings: Settings) -> list[str]:
    """Flag, then SACCADE_API_KEY, then VLLM_API_KEY."""
    keys = args.api_key or [key.get_secret_value() for key in settings.api_key]
    return [key for key in keys or [os.environ.get("VLLM_API_KEY", "")] if key]


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _fail(message: str, code: int) -> int:
    print(f"saccade serve: error: {message}", file=sys.stderr)
    return code
