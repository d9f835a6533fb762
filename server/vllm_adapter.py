"""With `processes` the only file of the server that knows vLLM's inside. Checked on vLLM 0.32.0.

vLLM's serving classes do everything that is OpenAI's: sampling, streaming, tools, structured
output, logprobs. This file starts them, feeds them and translates their errors.
"""

import logging
import os
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from fastapi import FastAPI, Request
from pydantic import ValidationError
from vllm.engine.protocol import EngineClient
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.api_server.entry import build_async_engine_client
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.entrypoints.launchers.launcher import serve_http, setup_server
from vllm.entrypoints.launchers.utils.server_utils import get_uvicorn_log_config
from vllm.entrypoints.launchers.utils.server_utils import lifespan as vllm_lifespan
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.exception_handling.error_response import create_error_response
from vllm.entrypoints.serve.exception_handling.utils import sanitize_message
from vllm.entrypoints.serve.instrumentator.metrics import attach_router as attach_metrics
from vllm.entrypoints.serve.middleware.x_request_id import XRequestIdMiddleware
from vllm.entrypoints.serve.utils.sse_keep_alive import with_sse_keep_alive
from vllm.exceptions import VLLMValidationError
from vllm.inputs import TokensPrompt
from vllm.logger import configure_logging_from_args
from vllm.multimodal.media import MEDIA_CONNECTOR_REGISTRY, MediaConnector
from vllm.platforms import current_platform
from vllm.sampling_params import SamplingParams
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.version import __version__ as VLLM_VERSION

from saccade.media.plan import PixelLimits, VisionGeometry
from saccade.media.prepared import PlannedImage, PlannedVideo
from saccade.model import ARCHITECTURE
from saccade.model.processor import QwenVLProcessingInfo
from saccade.server.cli import OneLineErrors
from saccade.server.errors import (
    INTERNAL_MESSAGE,
    ApiError,
    Unavailable,
    validation_error,
)
from saccade.server.handles import MediaHandles, UnknownHandle

__all__ = ["VLLM_VERSION", "Engine", "XRequestIdMiddleware", "attach_metrics", "vllm_lifespan"]

logger = logging.getLogger("saccade.server")

_CONNECTOR = "saccade"

# Where vLLM's defaults would hurt; every one is still a flag.
_DEFAULTS = {
    # usage.prompt_tokens_details: callers see cached tokens and the tokens of their pictures.
    "enable_prompt_tokens_details": True,
    # Qwen2.5-VL calls tools in Hermes's form; without a parser vLLM refuses tool_choice.
    "enable_auto_tool_choice": True,
    "tool_call_parser": "hermes",
    # vLLM's 0 kills the engine's processes before they can give back shared memory. By the time
    # this one counts, our own drain has left them without requests.
    "shutdown_timeout": 10,
}

# Options that would open, or only pretend to open, what this server keeps shut.
_REFUSED = {
    "trust_request_mm_kwargs": "controls of pictures and clips belong to their parts",
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
    "data_parallel_multi_port_external_lb": "start independent servers",
}


class _Parser(OneLineErrors, FlexibleArgumentParser):
    pass


def make_parser() -> ArgumentParser:
    """An empty parser of vLLM's kind: dashes or underscores, ``--option.key``, ``--config``."""
    # "resolve": our flags take the place of vLLM's of the same name.
    return _Parser(prog="saccade serve", conflict_handler="resolve")


def add_engine_arguments(parser: ArgumentParser) -> None:
    """Adds all of vLLM's serving flags, with this server's defaults."""
    make_arg_parser(parser)
    parser.set_defaults(**_DEFAULTS)


def runs_on_cpu() -> bool:
    """Whether the engine will compute on the CPU."""
    return bool(current_platform.is_cpu())


def prepare_arguments(arguments: Namespace) -> None:
    """Checks what vLLM's flags say and prepares vLLM's environment.

    Raises:
        ValueError: an option that this server does not serve; names it.
    """
    for name, why in _REFUSED.items():
        if getattr(arguments, name, None):
            raise ValueError(f"--{name.replace('_', '-')} is not supported: {why}")
    # Our own flag of this name has replaced vLLM's; its check is the media loader's.
    arguments.allowed_media_domains = None
    try:
        validate_parsed_serve_args(arguments)
    except TypeError as error:
        raise ValueError(str(error)) from None
    os.environ["VLLM_MEDIA_CONNECTOR"] = _CONNECTOR
    # fork is not safe once threads or a GPU are in use.
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    # vLLM reports its use to its makers unless told not to.
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    configure_logging(arguments)


def configure_logging(arguments: Namespace) -> None:
    """Lets our log lines look like vLLM's, and both as the flags say. Once in every process."""
    configure_logging_from_args(arguments)
    ours, theirs = logging.getLogger("saccade"), logging.getLogger("vllm")
    ours.handlers, ours.level, ours.propagate = theirs.handlers, theirs.level, False


def check_model(arguments: Namespace) -> None:
    """Refuses a checkpoint of another architecture before anything is loaded.

    Raises:
        ValueError: not Qwen2.5-VL, or no checkpoint at all; names it.
    """
    from vllm.transformers_utils.config import get_config

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


def register_connector(handles: MediaHandles) -> None:
    """Makes vLLM take media from ``handles`` and from nowhere else."""

    class HandleConnector(MediaConnector):
        async def fetch_image_async(self, image_url: str, **_: Any) -> PlannedImage:
            return _redeem(handles, image_url, PlannedImage)

        async def fetch_video_async(self, video_url: str, **_: Any) -> PlannedVideo:
            return _redeem(handles, video_url, PlannedVideo)

        async def load_from_url_async(self, url: str, *_: Any, **__: Any) -> Any:
            raise _unknown_media(url)

        def load_from_url(self, url: str, *_: Any, **__: Any) -> Any:
            raise _unknown_media(url)

    MEDIA_CONNECTOR_REGISTRY.register(_CONNECTOR)(HandleConnector)


def _redeem(handles: MediaHandles, url: str, kind: type[Any]) -> Any:
    try:
        medium = handles.redeem(url)
    except UnknownHandle:
        raise _unknown_media(url) from None
    if not isinstance(medium, kind):
        raise _unknown_media(url)
    return medium


def _unknown_media(_: str) -> VLLMValidationError:
    return VLLMValidationError("media must go through the chat route", parameter="messages")


class Engine:
    """vLLM's engine and serving classes behind four questions."""

    def __init__(self, client: EngineClient, arguments: Namespace) -> None:
        self._client = client
        self._arguments = arguments
        self._state: Any = None
        info = client.renderer.get_mm_processor().info
        if not isinstance(info, QwenVLProcessingInfo):
            raise ValueError("Saccade's model is not in use: unset SACCADE_PLUGIN and VLLM_PLUGINS")
        self.geometry: VisionGeometry = info.geometry
        self.pixel_limits: PixelLimits = info.pixel_limits("image")
        config = client.vllm_config
        self.takes_transfers = bool(config.kv_transfer_config or config.ec_transfer_config)

    async def attach(self, app: FastAPI) -> None:
        """Builds vLLM's serving classes on ``app.state``."""
        tasks = await self._client.get_supported_tasks()
        await init_app_state(self._client, app.state, self._arguments, tasks)
        self._state = app.state

    async def chat(self, body: dict[str, Any], request: Request) -> Any:
        """A chat completion: the answer as a dict, or server-sent events as an async generator.

        Raises:
            ApiError: whatever is wrong with the request or the engine.
        """
        serving = self._state.openai_serving_chat
        return await self._answer(
            ChatCompletionRequest, serving.create_chat_completion, body, request
        )

    async def complete(self, body: dict[str, Any], request: Request) -> Any:
        """A text completion; as `chat`."""
        serving = self._state.openai_serving_completion
        return await self._answer(CompletionRequest, serving.create_completion, body, request)

    async def models(self) -> dict[str, Any]:
        """The answer of ``GET /v1/models``."""
        listed = await self._state.openai_serving_models.show_available_models()
        models: dict[str, Any] = listed.model_dump()
        for model in models["data"]:
            model["root"] = model["id"]  # where it lies on this machine is nobody's business
        return models

    async def is_alive(self) -> bool:
        """Whether the engine's processes still work."""
        try:
            await self._client.check_health()
        except EngineDeadError:
            return False
        return True

    def end_at_once(self) -> None:
        """Lets the engine's processes have no time of their own when they are ended."""
        self._client.vllm_config.shutdown_timeout = 0

    async def warm_up(self) -> None:
        """One token with logprobs: what their first use compiles, it compiles now."""
        parameters = SamplingParams(max_tokens=1, logprobs=1, ignore_eos=True)
        prompt = TokensPrompt(prompt_token_ids=[0])
        async for _ in self._client.generate(prompt, parameters, "warm-up"):
            pass

    async def _answer(
        self,
        kind: type[Any],
        create: Callable[[Any, Request], Awaitable[Any]],
        body: dict[str, Any],
        request: Request,
    ) -> Any:
        with _translated():
            answer = await create(kind.model_validate(body), request)
        if isinstance(answer, ErrorResponse):
            raise _response_error(answer)
        if isinstance(answer, AsyncGenerator):
            return with_sse_keep_alive(answer, float(self._arguments.sse_keep_alive_interval))
        return answer.model_dump()


@asynccontextmanager
async def running_engine(
    arguments: Namespace, shared: dict[str, Any] | None = None
) -> AsyncIterator[Engine]:
    """Starts the engine's processes and ends them on leaving; or joins one that others share.

    Args:
        shared: vLLM's ``client_config`` of this process (see `processes`).
    """
    async with build_async_engine_client(arguments, client_config=shared) as client:
        yield Engine(client, arguments)


@contextmanager
def bound_socket(arguments: Namespace) -> Iterator[Any]:
    """The listening socket, taken before the model loads so that a taken port is told at once."""
    _, sock = setup_server(arguments, reuse_port=False)
    try:
        yield sock
    finally:
        sock.close()


async def serve_until_stopped(
    app: FastAPI, arguments: Namespace, sock: Any, loads: Any = None
) -> None:
    """Serves HTTP until ``app.state.server`` is told to exit or the engine dies.

    Args:
        loads: connections of each process on the socket, and which of them is this one.
    """
    extra: dict[str, Any] = {}
    if (log_config := get_uvicorn_log_config(arguments)) is not None:
        extra["log_config"] = log_config
    finish = await serve_http(
        app,
        sock=sock,
        enable_ssl_refresh=arguments.enable_ssl_refresh,
        peer_loads=loads,
        host=arguments.host,
        port=arguments.port,
        log_level=arguments.uvicorn_log_level,
        access_log=not arguments.disable_uvicorn_access_log,
        ssl_keyfile=arguments.ssl_keyfile,
        ssl_certfile=arguments.ssl_certfile,
        ssl_ca_certs=arguments.ssl_ca_certs,
        ssl_cert_reqs=arguments.ssl_cert_reqs,
        ssl_ciphers=arguments.ssl_ciphers,
        h11_max_incomplete_event_size=arguments.h11_max_incomplete_event_size,
        h11_max_header_count=arguments.h11_max_header_count,
        # By then the requests have had their drain timeout; what is left is cut off.
        timeout_graceful_shutdown=2,
        **extra,
    )
    await finish


def event_error(event: str) -> ApiError:
    """The error that an event of a vLLM stream carries."""
    return _response_error(ErrorResponse.model_validate_json(event.removeprefix("data: ")))


def request_schemas() -> Mapping[str, dict[str, Any]]:
    """JSON schemas of the request bodies, by path; ``$defs`` hold what they refer to."""
    template = "#/components/schemas/{model}"
    return {
        "/v1/chat/completions": ChatCompletionRequest.model_json_schema(ref_template=template),
        "/v1/completions": CompletionRequest.model_json_schema(ref_template=template),
    }


@contextmanager
def _translated() -> Iterator[None]:
    """Turns what vLLM's request models and serving classes raise into ApiError."""
    try:
        yield
    except ApiError:
        raise
    except ValidationError as error:
        raise _validation_error(error) from None
    except EngineDeadError:
        raise Unavailable("the engine has died", code="engine_dead") from None
    except Exception as error:
        # vLLM still raises bare ValueError and TypeError for mistakes of the client; its own
        # table knows which exceptions those are.
        translated = _response_error(create_error_response(error), error)
        if translated.status >= 500:
            logger.error("vLLM failed", exc_info=error)
        raise translated from None


def _validation_error(error: ValidationError) -> ApiError:
    errors = error.errors(include_url=False, include_input=False)
    cause = errors[0].get("ctx", {}).get("error")
    if isinstance(cause, VLLMValidationError):
        return ApiError(str(cause.args[0]), cause.parameter, status=400)
    return validation_error(errors)


def _response_error(response: ErrorResponse, cause: Exception | None = None) -> ApiError:
    info = response.error
    status, message, param, code = int(info.code), info.message, info.param, None
    if isinstance(cause, VLLMValidationError):
        # Its text repeats the parameter and the value, which may be the whole prompt.
        message = sanitize_message(str(cause.args[0]))
    if status == 500:
        message, code = INTERNAL_MESSAGE, "internal_error"
    elif status == 404 and param == "model":
        code = "model_not_found"
    elif "maximum context length" in message:
        # Said in two places of vLLM, with different parameters or none.
        param, code = "messages", "context_length_exceeded"
    return ApiError(message, param, code, status)
