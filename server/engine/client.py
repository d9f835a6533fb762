"""vLLM's engine and serving classes.

vLLM's serving classes do everything that is OpenAI's: sampling, streaming, tools, structured
output, logprobs. This file feeds them; `launch` starts them.
"""

import logging
from argparse import Namespace
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from vllm.engine.protocol import EngineClient
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.utils.server_utils import lifespan as vllm_lifespan
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.api_router import _convert_stream_to_sse_events
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.serve import instrumentator
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.instrumentator.metrics import attach_router as attach_metrics
from vllm.entrypoints.serve.tokenize.protocol import (
    DetokenizeRequest,
    TokenizeChatRequest,
    TokenizeCompletionRequest,
    TokenizeResponse,
)
from vllm.entrypoints.serve.utils.sse_keep_alive import with_sse_keep_alive
from vllm.renderers.chat_utils import load_chat_template
from vllm.version import __version__ as VLLM_VERSION

from saccade.media.items import EngineMedium
from saccade.media.planning.plan import PixelLimits, VisionGeometry
from saccade.model.inputs.processor import QwenVLProcessingInfo
from saccade.server.admission.pricing import EngineLimits
from saccade.server.core.errors import ApiError, InvalidRequest
from saccade.server.engine.errors import (
    BAD_TOOLS,
    NOTHING_FITS,
    EndedByEngine,
    api_error,
    checked_events,
    response_error,
)
from saccade.server.engine.media_cache import MediaCache
from saccade.server.engine.prompt.chat_templates import MediaNotInPrompt
from saccade.server.engine.prompt.request_media import request_media
from saccade.server.engine.tool_calls import uncompiled_tool
from saccade.server.engine.warm_up import warm_up
from saccade.server.engine.watchdog import computing_processes, watched
from saccade.server.request.field_checks import EngineOptions
from saccade.server.request.parsed_request import ParsedRequest
from saccade.server.request.response_items import PART_KEYS
from saccade.server.request.spellings import field_named

__all__ = [
    "SWAGGER_FILES",
    "VLLM_VERSION",
    "Engine",
    "attach_metrics",
    "vllm_lifespan",
]

logger = logging.getLogger("saccade.server")

# Swagger UI, which comes with vLLM for machines without a network.
SWAGGER_FILES = Path(instrumentator.__file__).parent / "static"


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
        self.media = MediaCache(client.renderer)
        self.media.lead_requests_through(client.engine_core)
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
        self.uses_priority_scheduling = scheduler.policy == "priority"
        self.options = EngineOptions(
            bool(config.kv_transfer_config or config.ec_transfer_config),
            config.structured_outputs_config.disable_any_whitespace,
            info.allowed_mm_limits,
        )

    async def attach(self, app: FastAPI) -> None:
        """Builds vLLM's serving classes on ``app.state``."""
        given = load_chat_template(self._arguments.chat_template)
        renderer = self._client.renderer
        templates = renderer.given_templates(given) if given else renderer.templates
        logger.info("chat template: %s", templates.report())
        tasks = await self._client.get_supported_tasks()
        await init_app_state(self._client, app.state, self._arguments, tasks)
        self._state = app.state

    async def run(
        self,
        call: "Callable[[Engine, Mapping[str, Any], Request], Awaitable[Any]]",
        request: ParsedRequest,
        media: list[EngineMedium],
        raw: Request,
        priority: int | None,
    ) -> Any:
        """What vLLM answers to a request: a dict, or server-sent events as an async generator.

        Args:
            call: one of the methods below, which give what vLLM's serving classes give.
            media: decoded or cached, in the order of the request's; the list is empty afterwards.
            priority: the least is scheduled first, where the engine goes by it; None: none.

        Raises:
            ApiError: whatever is wrong with the request or the engine.
        """
        body = request.body
        if self.uses_priority_scheduling and priority is not None:
            body = {**body, "priority": priority}
        with request_media(media):
            try:
                answer = await call(self, body, raw)
                if isinstance(answer, ErrorResponse):
                    raise response_error(answer)
            except MediaNotInPrompt as error:
                error.param = request.path_of(error.modality, error.index)
                raise
            except Exception as error:
                raise self._named(api_error(error), request) from None
        if not isinstance(answer, AsyncGenerator):
            return answer.model_dump(mode="json", by_alias=True)
        kept = with_sse_keep_alive(answer, float(self._arguments.sse_keep_alive_interval))
        return checked_events(
            kept, lambda: self._client.errored, lambda error: self._named(error, request)
        )

    def _named(self, error: ApiError, request: ParsedRequest) -> ApiError:
        """The error with the field that it is about, as that was sent."""
        body = request.body
        if isinstance(error, EndedByEngine):
            asked = field_named("grammar", body)
            if asked is not None and not self.options.accepts_kv_transfer:
                error = InvalidRequest(NOTHING_FITS, asked)
        elif error.message == BAD_TOOLS and (found := uncompiled_tool(body)) is not None:
            error.param, fault = found
            error.message = f"no grammar can be made of it: {fault}"
        error.param = request.path_sent(error.param or field_named(error.message, body))
        return error

    async def chat(self, body: Mapping[str, Any], request: Request) -> Any:
        """A chat completion."""
        chat = ChatCompletionRequest.model_validate(body)
        return await self._state.openai_serving_chat.create_chat_completion(chat, request)

    async def complete(self, body: Mapping[str, Any], request: Request) -> Any:
        """A text completion."""
        completion = CompletionRequest.model_validate(body)
        return await self._state.openai_serving_completion.create_completion(completion, request)

    async def respond(self, body: Mapping[str, Any], request: Request) -> Any:
        """A response of OpenAI's Responses API.

        Its input may hold parts as chat has them. vLLM's request model knows no videos: contents
        are kept from it and put in after its validation.
        """
        response = _response_request(body)
        answer = await self._state.openai_serving_responses.create_responses(response, request)
        if isinstance(answer, AsyncGenerator):
            return _convert_stream_to_sse_events(answer)
        return answer

    async def count_response(self, body: Mapping[str, Any], request: Request) -> Any:
        """The tokens of the prompt that `respond` would make of this body, as `tokenize` tells
        them."""
        renderer = self._state.openai_serving_responses.online_renderer
        # Pixels that nobody has decoded must not stand for a medium.
        rendered = await renderer.render_responses(_response_request(body), skip_mm_cache=True)
        if isinstance(rendered, ErrorResponse):
            return rendered
        tokens = rendered.engine_input["prompt_token_ids"]
        context = self._client.model_config.max_model_len
        return TokenizeResponse(count=len(tokens), max_model_len=context, tokens=[])

    async def tokenize(self, body: Mapping[str, Any], request: Request) -> Any:
        """The tokens of a prompt, or of chat messages."""
        kind = TokenizeChatRequest if "messages" in body else TokenizeCompletionRequest
        tokens = kind.model_validate(body)
        return await self._state.serving_tokenization.create_tokenize(tokens, request)

    async def count_chat(self, body: Mapping[str, Any], request: Request) -> Any:
        """The tokens of the prompt that `chat` would make of this body, as `tokenize` tells them.

        What `chat` would refuse is refused, but for a prompt that is too long.
        """
        chat = ChatCompletionRequest.model_validate(body)
        chat.build_tok_params(self._client.model_config)
        prompt = {name: body[name] for name in TokenizeChatRequest.model_fields if name in body}
        return await self.tokenize(prompt, request)

    async def detokenize(self, body: Mapping[str, Any], request: Request) -> Any:
        """The text of tokens."""
        tokens = DetokenizeRequest.model_validate(body)
        return await self._state.serving_tokenization.create_detokenize(tokens, request)

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
        """Runs an image, a video and a token with logprobs, as requests do.

        Raises:
            WarmUpFailed: the engine could not, or died.
        """
        with self.watched(lambda: None):
            await warm_up(self._client, self.geometry)


def _response_request(body: Mapping[str, Any]) -> ResponsesRequest:
    """A response as vLLM's request model has it, with parts as chat has them."""
    contents, body = _without_contents(body)
    response = ResponsesRequest.model_validate(body)
    for (number, key), content in contents.items():
        response.input[number][key] = content
    return response


def _without_contents(
    body: Mapping[str, Any],
) -> tuple[dict[tuple[int, str], list[Any]], Mapping[str, Any]]:
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
