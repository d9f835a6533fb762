"""vLLM's flags: which this server takes, refuses and changes."""

import logging
import os
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from vllm.config import StructuredOutputsConfig
from vllm.config.logging import LoggingConfig
from vllm.logger import configure_logging_from_args
from vllm.platforms import current_platform
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.version import __version__ as VLLM_VERSION

from saccade.model import ARCHITECTURE
from saccade.model.cpu.tuning import cpu_tuning_enabled
from saccade.model.vllm_versions import mark_named, unchecked_warning
from saccade.server.checkpoint.lookup import find_checkpoint
from saccade.server.core.command_line import OneLineErrors
from saccade.server.core.request_context import RequestIdFilter
from saccade.server.engine.moved import make_arg_parser, validate_parsed_serve_args

_logger = logging.getLogger(__name__)

_REQUEST_LOGGER = "vllm.entrypoints.serve.utils.request_logger"

# What vLLM does for variables of the environment, and a server never should.
_REFUSED_VARIABLES = {
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "its processes would unpickle what reaches their sockets",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "name the adapters with --lora-modules",
    "VLLM_SERVER_DEV_MODE": "its routes are not mounted",
}

# Where vLLM's defaults would hurt; every one is still a flag.
_DEFAULTS = {
    # usage.prompt_tokens_details: callers see cached tokens and the tokens of their images.
    "enable_prompt_tokens_details": True,
    # Qwen2.5-VL calls tools in Hermes's form; without a parser vLLM refuses tool_choice.
    "enable_auto_tool_choice": True,
    "tool_call_parser": "hermes",
    # Arguments of a call follow the function's schema, whether or not it says `strict`: clients
    # that force a call parse them.
    "tool_strict_level": "parameter",
    # Qwen2.5-VL is prone to write new lines to the end of the context where JSON may have them.
    "structured_outputs_config": StructuredOutputsConfig(
        backend="xgrammar", disable_any_whitespace=True
    ),
    # vLLM's 0 kills the engine's processes before they can give back shared memory. By the time
    # this one counts, our own drain has left them without requests.
    "shutdown_timeout": 10,
    # Text comes first in the engine too, then small requests; see `admission.controller`.
    "scheduling_policy": "priority",
}

# Text waits there for one image at most.
_CPU_SCHEDULER = "saccade.model.cpu.scheduling.TextFirstScheduler"
_CPU_WORKER = "saccade.model.cpu.worker.SampleInStepCPUWorker"

# Options that would open, or only pretend to open, what this server keeps shut.
_REFUSED = {
    "trust_request_mm_kwargs": "controls of images and videos belong to their parts",
    "enable_mm_embeds": "embeddings from clients are not served",
    "enable_prompt_embeds": "embeddings from clients are not served",
    "allowed_local_media_path": "use --media-root",
    "middleware": "put middleware in front of the server",
    "headless": "start it with vllm serve",
    "grpc": "this server speaks HTTP",
    "grpc_port": "this server speaks HTTP",
    "tokens_only": "start it with vllm serve",
    "enable_scale_out": "start it with vllm serve",
    "enable_tokenizer_info_endpoint": "the route is not mounted",
    "enable_server_load_tracking": "the route is not mounted; see /metrics",
    "enable_offline_docs": "the files are not mounted; see /openapi.json",
    "data_parallel_external_lb": "start independent servers",
    "data_parallel_multi_port_external_lb": "start independent servers",
}


class _Parser(OneLineErrors, FlexibleArgumentParser):
    pass


def make_parser() -> ArgumentParser:
    """An empty parser of vLLM's kind: dashes or underscores, ``--option.key``, ``--config``."""
    # vLLM loads our plugin to tell its flags; `prepare_arguments` knows how logs are to look.
    mark_named(VLLM_VERSION)
    # "resolve": our flags take the place of vLLM's of the same name.
    return _Parser(prog="saccade serve", conflict_handler="resolve")


def add_engine_arguments(parser: ArgumentParser) -> None:
    """Adds all of vLLM's serving flags, with this server's defaults."""
    make_arg_parser(parser)
    parser.add_argument(
        "--log-format",
        choices=("text", "json"),
        default=None,
        help="of log lines; json: one object a line, also from the engine's processes",
    )
    parser.add_argument(
        "--log-requests",
        dest="enable_log_requests",
        action="store_true",
        help="log every request's body, prompt and parameters; never its media (default: none of "
        "these are logged)",
    )
    parser.set_defaults(**_DEFAULTS)


def runs_on_cpu() -> bool:
    """Whether the engine will compute on the CPU."""
    return bool(current_platform.is_cpu())


def prepare_arguments(arguments: Namespace) -> None:
    """Checks what vLLM's flags say and prepares vLLM's environment and the log.

    Raises:
        ValueError: an option that this server does not serve; names it.
    """
    for name, why in _REFUSED.items():
        if getattr(arguments, name, None):
            raise ValueError(f"--{name.replace('_', '-')} is not supported: {why}")
    if arguments.data_parallel_rank is not None:  # may be 0
        raise ValueError("--data-parallel-rank is not supported: start independent servers")
    if arguments.chat_template_content_format == "string":
        # vLLM would write the placeholders of media into the text of users, as if they had.
        raise ValueError(
            "--chat-template-content-format string is not supported: the template must take parts"
        )
    arguments.chat_template_content_format = "openai"
    for name, why in _REFUSED_VARIABLES.items():
        if os.environ.get(name, "").lower() in ("1", "true"):
            raise ValueError(f"{name} in the environment is not supported: {why}")
    # Our own flag of this name has replaced vLLM's; its check is the media loader's.
    arguments.allowed_media_domains = None
    try:
        validate_parsed_serve_args(arguments)
    except TypeError as error:
        raise ValueError(str(error)) from None
    if cpu_tuning_enabled():
        if arguments.scheduler_cls is None:
            arguments.scheduler_cls = _CPU_SCHEDULER
        if arguments.worker_cls == "auto":
            arguments.worker_cls = _CPU_WORKER
    # It would keep every response for ever.
    os.environ["VLLM_ENABLE_RESPONSES_API_STORE"] = "0"
    # fork is not safe once threads or a GPU are in use.
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    # vLLM reports its use to its makers unless told not to.
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    # vLLM would stop the server at some moment of the five seconds after; ours tells why first.
    os.environ["VLLM_KEEP_ALIVE_ON_ENGINE_DEATH"] = "1"
    if arguments.log_format is not None:
        config = getattr(arguments, "logging_config", None) or LoggingConfig()
        arguments.logging_config = replace(config, formatter=arguments.log_format)
    configure_logging(arguments)
    if (warning := unchecked_warning(VLLM_VERSION)) is not None:
        _logger.warning(warning)


def configure_logging(arguments: Namespace) -> None:
    """Lets our log lines look like vLLM's, and both as the flags say. Once in every process."""
    config = configure_logging_from_args(arguments)
    ours, theirs = logging.getLogger("saccade"), logging.getLogger("vllm")
    ours.handlers, ours.level, ours.propagate = theirs.handlers, theirs.level, False
    for handler in theirs.handlers:
        handler.addFilter(RequestIdFilter(in_text=config.formatter == "text"))
    if arguments.enable_log_requests:
        # vLLM tells prompts at this level only; the level of the handlers is that of the loggers.
        logging.getLogger(_REQUEST_LOGGER).setLevel(logging.DEBUG)
        for handler in theirs.handlers:
            handler.setLevel(logging.DEBUG)


def check_model(arguments: Namespace) -> Any:
    """Refuses a checkpoint of another architecture before anything is loaded; returns its config.

    Raises:
        ValueError: not Qwen2.5-VL, or no checkpoint at all; names it.
    """
    from vllm.transformers_utils.config import get_config

    _find_checkpoints(arguments)
    try:
        config = get_config(
            arguments.hf_config_path or arguments.model,
            trust_remote_code=arguments.trust_remote_code,
            revision=arguments.revision,
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"cannot read the model {arguments.model!r}: {reason}") from None
    architectures = getattr(config, "architectures", None) or []
    if ARCHITECTURE not in architectures:
        found = ", ".join(architectures) or "none"
        raise ValueError(
            f"{arguments.model!r} is not a Qwen2.5-VL model: it needs the architecture "
            f"{ARCHITECTURE}, its config.json names {found}"
        )
    return config


def _find_checkpoints(arguments: Namespace) -> None:
    """Where the configuration and the weights are; ``--hf-config-path`` parts them."""
    model, config = arguments.model, arguments.hf_config_path or arguments.model
    # Offline, vLLM would look for the weights in the hub's cache only.
    go_offline = arguments.download_dir is None
    asked = (arguments.revision, arguments.hf_token)
    if config != model:
        find_checkpoint(config, *asked, go_offline and Path(model).is_dir(), weights=False)
    find_checkpoint(model, *asked, go_offline, config=config == model)


def describe_invalid(error: ValidationError) -> str:
    """What vLLM's configuration says of flags that it does not take, in one line."""
    messages = (
        ": ".join([*map(str, entry["loc"]), entry["msg"].removeprefix("Value error, ")])
        for entry in error.errors()
    )
    return " ".join("; ".join(messages).split())
