"""vLLM's engine and serving classes. Checked on vLLM 0.32.0.

With `processes` and `renderer` the only file of the server that knows vLLM's inside.

vLLM's serving classes do everything that is OpenAI's: sampling, streaming, tools, structured
output, logprobs. This file starts them, feeds them and translates their errors.
"""

import logging
import os
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from pydantic import ValidationError
from vllm.config.logging import LoggingConfig
from vllm.engine.protocol import EngineClient
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.api_server.entry import build_async_engine_client
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.entrypoints.launchers.launcher import serve_http, setup_server
from vllm.entrypoints.launchers.utils.server_utils import get_uvicorn_log_config
from vllm.entrypoints.launchers.utils.server_utils import lifespan as vllm_lifespan
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.api_router import _convert_stream_to_sse_events
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.serve import instrumentator
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.exception_handling.error_response import create_error_response
from vllm.entrypoints.serve.exception_handling.utils import sanitize_message
from vllm.entrypoints.serve.instrumentator.metrics import attach_router as attach_metrics
from vllm.entrypoints.serve.tokenize.protocol import (
    DetokenizeRequest,
    TokenizeChatRequest,
    TokenizeCompletionRequest,
)
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
from saccade.server.engine_watch import computing_processes, end_processes, watched
from saccade.server.errors import (
    CONTEXT_LENGTH_EXCEEDED,
    INTERNAL_MESSAGE,
    ApiError,
    EngineDied,
    validation_error,
)
from saccade.server.handles import MediaHandles, UnknownHandle
from saccade.server.input_items import PART_KEYS
from saccade.server.pricing import EngineLimits
from saccade.server.renderer import use_plain_text_renderer
from saccade.server.request_record import RequestIdFilter

__all__ = [
    "SWAGGER_FILES",
    "VLLM_VERSION",
    "Engine",
    "attach_metrics",
    "vllm_lifespan",
]

logger = logging.getLogger("saccade.server")

_CONNECTOR = "saccade"
_REQUEST_LOGGER = "vllm.entrypoints.serve.utils.request_logger"
_ERROR_EVENT = 'data: {"error":'

# Fields of responses, by what vLLM's errors call them.
_OF_RESPONSES = {"messages": "input", "max_tokens": "max_output_tokens"}
# Swagger UI, which comes with vLLM for machines without a network.
SWAGGER_FILES = Path(instrumentator.__file__).parent / "static"

# What vLLM does for variables of the environment, and a server never should.
_REFUSED_VARIABLES = {
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "its processes would unpickle what reaches their sockets",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "name the adapters with --lora-modules",
    "VLLM_SERVER_DEV_MODE": "its routes are not mounted",
}

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
    # Small requests come before large ones in the engine too; see `priority_of`.
    "scheduling_policy": "priority",
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
    """Checks what vLLM's flags say and prepares vLLM's environment.

    Raises:
        ValueError: an option that this server does not serve; names it.
    """
    for name, why in _REFUSED.items():
        if getattr(arguments, name, None):
            raise ValueError(f"--{name.replace('_', '-')} is not supported: {why}")
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
    os.environ["VLLM_MEDIA_CONNECTOR"] = _CONNECTOR
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

    def __init__(
        self, client: EngineClient, arguments: Namespace, engines: Sequence[int] | None
    ) -> None:
        self._client = client
        if engines is None:
            manager = client.engine_core.resources.engine_manager
            engines = [process.pid for process in getattr(manager, "processes", ())]
        self.processes = computing_processes(engines)
        self._arguments = arguments
        self._state: Any = None
        self.dead = False
        info = client.renderer.get_mm_processor().info
        if not isinstance(info, QwenVLProcessingInfo):
            raise ValueError("Saccade's model is not in use: unset SACCADE_PLUGIN and VLLM_PLUGINS")
        self.geometry: VisionGeometry = info.geometry
        self.pixel_limits: PixelLimits = info.pixel_limits("image")
        config = client.vllm_config
        cache, scheduler = config.cache_config, config.scheduler_config
        # vLLM counts the blocks of all data-parallel engines together.
        self.limits = EngineLimits(
            (cache.num_gpu_blocks or 0) * cache.block_size,
            scheduler.max_num_seqs * config.parallel_config.data_parallel_size,
            config.model_config.max_model_len,
        )
        self.orders_by_priority = scheduler.policy == "priority"
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
        with _translated():
            chat = ChatCompletionRequest.model_validate(body)
            return self._answer(await serving.create_chat_completion(chat, request))

    async def complete(self, body: dict[str, Any], request: Request) -> Any:
        """A text completion; as `chat`."""
        serving = self._state.openai_serving_completion
        with _translated():
            completion = CompletionRequest.model_validate(body)
            return self._answer(await serving.create_completion(completion, request))

    async def respond(self, body: dict[str, Any], request: Request) -> Any:
        """A response of OpenAI's Responses API; as `chat`.

        Its input may hold parts as chat has them. vLLM's request model knows no clips: contents
        are kept from it and put in after its validation.
        """
        serving = self._state.openai_serving_responses
        with _translated(_OF_RESPONSES):
            contents, body = _without_contents(body)
            response = ResponsesRequest.model_validate(body)
            for (number, key), content in contents.items():
                response.input[number][key] = content
            answer = await serving.create_responses(response, request)
            if isinstance(answer, AsyncGenerator):
                answer = _convert_stream_to_sse_events(answer)
            return self._answer(answer)

    async def tokenize(self, body: dict[str, Any], request: Request) -> Any:
        """The tokens of a prompt, or of chat messages."""
        kind = TokenizeChatRequest if "messages" in body else TokenizeCompletionRequest
        serving = self._state.serving_tokenization
        with _translated():
            return self._answer(await serving.create_tokenize(kind.model_validate(body), request))

    async def count_chat(self, body: dict[str, Any], request: Request) -> Any:
        """The tokens of the prompt that `chat` would make of this body, as `tokenize` tells them.

        What `chat` would refuse is refused, but for a prompt that is too long.
        """
        with _translated():
            chat = ChatCompletionRequest.model_validate(body)
            chat.build_tok_params(self._client.model_config)
        prompt = {name: body[name] for name in TokenizeChatRequest.model_fields if name in body}
        return await self.tokenize(prompt, request)

    async def detokenize(self, body: dict[str, Any], request: Request) -> Any:
        """The text of tokens."""
        serving = self._state.serving_tokenization
        with _translated():
            tokens = DetokenizeRequest.model_validate(body)
            return self._answer(await serving.create_detokenize(tokens, request))

    async def models(self) -> dict[str, Any]:
        """The answer of ``GET /v1/models``."""
        listed = await self._state.openai_serving_models.show_available_models()
        models: dict[str, Any] = listed.model_dump()
        for model in models["data"]:
            model["root"] = model["id"]  # where it lies on this machine is nobody's business
        return models

    @contextmanager
    def watched(self, died: Callable[[], None]) -> Iterator[None]:
        """Calls ``died``, once, as soon as the engine fails or one of its processes ends.

        What waits for the engine then fails, too.
        """
        resources, outputs = self._client.engine_core.resources, self._client.output_handler

        def declare(*_: object) -> None:
            if not self.dead:
                self.dead = resources.engine_dead = True
                # vLLM itself finds out later, and never where others have started the engine.
                resources.output_queue_task.cancel()
                # Nothing is left to be finished in what still runs of it.
                self._client.vllm_config.shutdown_timeout = 1
                died()

        outputs.add_done_callback(declare)
        try:
            with watched([process.pid for process in self.processes], declare):
                yield
        finally:
            outputs.remove_done_callback(declare)

    def end_at_once(self) -> None:
        """Lets the engine's processes have no time of their own when they are ended."""
        self._client.vllm_config.shutdown_timeout = 0

    async def warm_up(self) -> None:
        """One token with logprobs: what their first use compiles, it compiles now."""
        parameters = SamplingParams(max_tokens=1, logprobs=1, ignore_eos=True)
        prompt = TokensPrompt(prompt_token_ids=[0])
        async for _ in self._client.generate(prompt, parameters, "warm-up"):
            pass

    def _answer(self, answer: Any) -> Any:
        """An answer of vLLM's as this server passes it on."""
        if isinstance(answer, ErrorResponse):
            raise _response_error(answer)
        if not isinstance(answer, AsyncGenerator):
            return answer.model_dump(mode="json", by_alias=True)
        kept = with_sse_keep_alive(answer, float(self._arguments.sse_keep_alive_interval))
        return checked_events(kept, lambda: self._client.errored)


@asynccontextmanager
async def running_engine(
    arguments: Namespace,
    shared: dict[str, Any] | None = None,
    engines: Sequence[int] | None = None,
) -> AsyncIterator[Engine]:
    """Starts the engine's processes and ends them on leaving; or joins one that others share.

    Args:
        shared: vLLM's ``client_config`` of this process (see `processes`).
        engines: ids of the engine's processes where they are not this process's own.
    """
    use_plain_text_renderer()
    async with build_async_engine_client(arguments, client_config=shared) as client:
        engine = Engine(client, arguments, engines)
        yield engine
    if shared is None:
        end_processes(engine.processes)


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
    # The parser that obeys the limits of headers; uvicorn's faster one has none.
    extra: dict[str, Any] = {"http": "h11"}
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
        access_log=False,  # our own says more (see `observation`)
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


async def checked_events(
    events: AsyncGenerator[str], engine_died: Callable[[], bool]
) -> AsyncGenerator[str]:
    """The events of a vLLM stream up to the first that tells of an error, which is raised."""
    async with aclosing(events):
        async for event in events:
            if event.startswith(_ERROR_EVENT):
                if engine_died():
                    raise EngineDied
                told = ErrorResponse.model_validate_json(event.removeprefix("data: "))
                raise _response_error(told)
            yield event


def _without_contents(
    body: dict[str, Any],
) -> tuple[dict[tuple[int, str], list[Any]], dict[str, Any]]:
    """Lists of parts in a response's input, by item and key, and the body with text for them."""
    contents: dict[tuple[int, str], list[Any]] = {}
    items = body.get("input")
    if not isinstance(items, list):
        return contents, body
    rewritten = []
    for number, item in enumerate(items):
        key = PART_KEYS.get(item["type"])
        if key and isinstance(item[key], list) and item.get("role") != "assistant":
            contents[number, key] = item[key]
            item = {**item, key: ""}
        rewritten.append(item)
    return contents, {**body, "input": rewritten}


@contextmanager
def _translated(names: Mapping[str, str] | None = None) -> Iterator[None]:
    """Turns what vLLM's request models and serving classes raise into ApiError.

    Args:
        names: fields of this request, by what vLLM's errors call them.
    """
    try:
        with _as_api_error():
            yield
    except ApiError as error:
        if names and error.param:
            error.param = names.get(error.param, error.param)
        raise


@contextmanager
def _as_api_error() -> Iterator[None]:
    try:
        yield
    except ApiError:
        raise
    except ValidationError as error:
        raise _validation_error(error) from None
    except EngineDeadError:
        raise EngineDied from None
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
    elif "maximum context length" in message or "exceeds the max_model_len" in message:
        # Said in several places of vLLM, with different parameters or none.
        param, code = "messages", CONTEXT_LENGTH_EXCEEDED
    return ApiError(message, param, code, status)
