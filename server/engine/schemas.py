"""JSON schemas of what vLLM's serving classes take and give."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import TypeAdapter
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionRequest,
    ChatCompletionResponse,
)
from vllm.entrypoints.openai.completion.protocol import CompletionRequest, CompletionResponse
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest, ResponsesResponse
from vllm.entrypoints.serve.engine.protocol import ModelCard, ModelList
from vllm.entrypoints.serve.tokenize.protocol import (
    DetokenizeRequest,
    DetokenizeResponse,
    TokenizeRequest,
    TokenizeResponse,
)

_REQUESTS: dict[str, Any] = {
    "/v1/chat/completions": ChatCompletionRequest,
    "/v1/vision/plan": ChatCompletionRequest,
    "/v1/completions": CompletionRequest,
    "/v1/responses": ResponsesRequest,
    "/tokenize": TokenizeRequest,
    "/detokenize": DetokenizeRequest,
}
_ANSWERS: dict[str, Any] = {
    "/v1/chat/completions": ChatCompletionResponse,
    "/v1/completions": CompletionResponse,
    "/v1/responses": ResponsesResponse,
    "/tokenize": TokenizeResponse,
    "/detokenize": DetokenizeResponse,
    "/v1/models": ModelList,
    "/v1/models/{model}": ModelCard,
}


def schemas() -> tuple[Mapping[str, dict[str, Any]], Mapping[str, dict[str, Any]], dict[str, Any]]:
    """Of request bodies and of whole answers (not streamed ones), by path; what both refer to."""
    inputs: list[tuple[str, Literal["validation", "serialization"], TypeAdapter[Any]]] = [
        *((path, "validation", TypeAdapter(kind)) for path, kind in _REQUESTS.items()),
        *((path, "serialization", TypeAdapter(kind)) for path, kind in _ANSWERS.items()),
    ]
    found, document = TypeAdapter.json_schemas(inputs, ref_template="#/components/schemas/{model}")
    requests = {path: found[path, "validation"] for path in _REQUESTS}
    answers = {path: found[path, "serialization"] for path in _ANSWERS}
    return requests, answers, document["$defs"]
