"""The OpenAPI document: what the routes take and give, with examples, so that /docs teaches it.

The routes read their bodies themselves, so FastAPI knows nothing of them. They are described here,
from the table of routes and vLLM's schemas, whose definitions are shared by several routes.
"""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from saccade.media.controls import ImageFields, VideoFields
from saccade.server.api.openapi import files
from saccade.server.api.openapi import messages as anthropic
from saccade.server.api.openapi.examples import CHAT_EXAMPLES, RESPONSE_EXAMPLES
from saccade.server.api.vision_plan import VisionPlan
from saccade.server.core.routes import (
    API_PREFIXES,
    CHAT,
    COUNT_TOKENS,
    DELETED_FILE,
    FILE,
    FILES,
    HEALTH,
    LISTED_FILES,
    MESSAGES,
    MODEL,
    READY,
    RESPONSE_INPUT_TOKENS,
    RESPONSES,
    ROUTES,
    VISION_PLAN,
    Route,
)
from saccade.server.engine.schemas import schemas
from saccade.server.request.fields import BY_ROUTE, MEDIA_DEFAULTS, Field, Treatment
from saccade.server.request.media_defaults import PROCESSOR_KWARGS, VIDEO_KWARGS
from saccade.server.request.vision import VisionOptions
from saccade.server.response.vision_report import VisionReport

_REFERENCE = "#/components/schemas/{model}"


def _reference(name: str) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=name)}


_ERROR_STATUSES = {
    400: "the request is malformed, or asks for what is not served; `param` names the field",
    401: "the API key is missing or wrong",
    404: "the model is not served",
    408: "the body has come too slowly",
    413: "the request or a medium is larger than the server's limits",
    415: "the body is not declared as JSON, or is compressed",
    429: "the server is overloaded; retry after `Retry-After` seconds",
    431: "the request has too many headers",
    500: "the server failed",
    503: "the server is shutting down, or its engine has died",
    507: "the disk for files is full",
}
_OF_FILES = {
    FILES: _reference("File"),
    LISTED_FILES: files.LIST,
    FILE: _reference("File"),
    DELETED_FILE: files.DELETED,
}
# vLLM's names of what is posted -> the route's letter in the table of fields.
_REQUESTS = {
    "ChatCompletionRequest": "c",
    "CompletionRequest": "t",
    "ResponsesRequest": "r",
    "TokenizeChatRequest": "k",
}
_EXAMPLES = {
    CHAT.path: CHAT_EXAMPLES,
    VISION_PLAN.path: CHAT_EXAMPLES,
    RESPONSES.path: RESPONSE_EXAMPLES,
}

_INPUT_TOKENS = {
    "type": "object",
    "required": ["object", "input_tokens"],
    "properties": {
        "object": {"const": "response.input_tokens"},
        "input_tokens": {"type": "integer", "minimum": 0},
    },
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string", "description": "one line"},
                "type": {
                    "enum": [
                        "invalid_request_error",
                        "authentication_error",
                        "rate_limit_error",
                        "server_error",
                    ]
                },
                "param": {
                    "type": ["string", "null"],
                    "description": "the field at fault",
                    "examples": ["messages[0].content[1].max_pixels"],
                },
                "code": {"type": ["string", "null"], "examples": ["invalid_control"]},
            },
        }
    },
}


def describe(app: FastAPI) -> None:
    """Makes ``app`` describe its bodies, errors and answers."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(plain())
        return app.openapi_schema

    # FastAPI's documented way to extend the document is to replace the method.
    app.openapi = openapi  # type: ignore[method-assign]


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    requests, answers, definitions = schemas()
    requests = {
        **requests,
        RESPONSE_INPUT_TOKENS.path: requests[RESPONSES.path],
        MESSAGES.path: anthropic.MESSAGES,
        COUNT_TOKENS.path: anthropic.COUNTED,
    }
    answers = {
        **answers,
        VISION_PLAN.path: _reference("VisionPlan"),
        RESPONSE_INPUT_TOKENS.path: _INPUT_TOKENS,
        MESSAGES.path: anthropic.MESSAGE,
        COUNT_TOKENS.path: anthropic.COUNT,
    }
    for name, letter in _REQUESTS.items():
        definitions[name] = _served(definitions[name], BY_ROUTE[letter])
    document.setdefault("components", {})["schemas"] = {
        **definitions,
        **_models(VisionOptions, VisionReport, VisionPlan),
        **_parts(),
        "Error": _ERROR,
        "MessagesError": anthropic.ERROR,
        "File": files.FILE,
    }
    for path, schema in requests.items():
        body: dict[str, Any] = {"schema": schema}
        if path in _EXAMPLES:
            body["examples"] = _EXAMPLES[path]
        document["paths"][path]["post"]["requestBody"] = {
            "required": True,
            "content": {"application/json": body},
        }
    document["paths"][FILES.path]["post"]["requestBody"] = files.UPLOAD
    for route in (route for route in ROUTES if route.path in document["paths"]):
        described = document["paths"][route.path][route.method]["responses"]
        described.pop("422", None)  # FastAPI's, of parameters that cannot be wrong
        error = "MessagesError" if route in (MESSAGES, COUNT_TOKENS) else "Error"
        for status in _error_statuses(route):
            described[str(status)] = {
                "description": _ERROR_STATUSES[status],
                "content": {"application/json": {"schema": _reference(error)}},
            }
        content = described["200"].get("content")
        if route in _OF_FILES:
            content["application/json"]["schema"] = _OF_FILES[route]
        elif route.path in answers:
            schema = answers[route.path]
            if route.media:
                vision = {"properties": {"vision": _reference("VisionReport")}}
                schema = {"allOf": [schema, vision]}
            content["application/json"]["schema"] = schema
        if route.streams:
            content["text/event-stream"] = {"schema": {"type": "string"}}
    return document


def _error_statuses(route: Route) -> tuple[int, ...]:
    if route.method == "post":
        return tuple(status for status in _ERROR_STATUSES if status != 507 or route is FILES)
    if route.path.startswith(FILES.path):
        return (400, 401, 404, 431, 500, 503, *([507] if route is DELETED_FILE else []))
    if route.path.startswith(API_PREFIXES):
        return (401, *([404] if route is MODEL else []), 431, 500, 503)
    return (431, 503) if route in (HEALTH, READY) else ()


def _served(schema: dict[str, Any], rows: Mapping[str, Field]) -> dict[str, Any]:
    """vLLM's schema of a request, as this server takes it."""
    properties = schema.get("properties", {})
    for name, row in rows.items():
        if row.treatment is Treatment.REFUSED:
            properties.pop(name, None)
    if "max_pixels" in rows:
        controls = _controls(VideoFields)
        for name in MEDIA_DEFAULTS.split():
            properties[name] = controls[name]
        frames = {"type": "integer", "minimum": -1}
        video = {name: controls.get(name, frames) for name in VIDEO_KWARGS}
        images = {name: controls[name] for name in PROCESSOR_KWARGS}
        for name, held in (
            ("media_io_kwargs", {"video": _only(video)}),
            ("mm_processor_kwargs", images),
        ):
            properties[name] = {**_only(held), "description": rows[name].note}
    if "messages" in properties:
        message = _reference("MediaMessage")
        properties["messages"] = {"type": "array", "items": message, "minItems": 1}
    elif "input" not in properties and "prompt" in properties:
        schema["required"] = sorted({*schema.get("required", ()), "prompt"})
    if "input" in properties:
        items = {"type": "array", "items": {"type": "object"}}
        properties["input"] = {
            "anyOf": [{"type": "string"}, items],
            "description": "text, or items; messages are those of `MediaMessage`",
        }
    if "stream" in properties and not properties.keys().isdisjoint({"messages", "input"}):
        properties["vision"] = _reference("VisionOptions")
    return schema


def _parts() -> dict[str, Any]:
    """Messages and their parts, with the controls of images and videos."""
    image, video = _controls(ImageFields), _controls(VideoFields)
    url = {"type": "string", "description": "data:, https:, http: or file: below --media-root"}
    frames = {"type": "array", "items": url, "minItems": 1, "description": "frames of a video"}
    url_or_frames = {"anyOf": [url, frames]}
    parts = [_reference(name) for name in ("TextPart", "ImagePart", "VideoPart")]
    content = [{"type": "string"}, {"type": "array", "items": {"anyOf": parts}}]
    return {
        "MediaMessage": {
            "anyOf": [
                {
                    "type": "object",
                    "required": ["role", "content"],
                    "properties": {
                        "role": {"enum": ["system", "developer", "user", "tool"]},
                        "content": {"anyOf": content},
                    },
                },
                {
                    "type": "object",
                    "required": ["role"],
                    "properties": {
                        "role": {"enum": ["assistant"]},
                        "content": {"anyOf": [*content, {"type": "null"}]},
                    },
                },
            ]
        },
        "TextPart": {
            "type": "object",
            "required": ["type", "text"],
            "properties": {
                "type": {"enum": ["text", "input_text", "output_text"]},
                "text": {"type": "string"},
            },
        },
        "ImagePart": _part(("image_url", "image", "input_image"), "image", url, image),
        "VideoPart": _part(("video_url", "video", "input_video"), "video", url_or_frames, video),
    }


def _only(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _part(
    types: tuple[str, ...], bare: str, source: dict[str, Any], controls: dict[str, Any]
) -> dict[str, Any]:
    held = {**_only({"url": source, **controls}), "required": ["url"]}
    return {
        "type": "object",
        "description": "Controls stand beside the type or inside the object that holds the URL.",
        "required": ["type"],
        "anyOf": [{"required": [f"{bare}_url"]}, {"required": [bare]}],
        "additionalProperties": False,
        "properties": {
            "type": {"enum": list(types)},
            f"{bare}_url": {"anyOf": [source, held]},
            bare: {**source, "description": f"Qwen's spelling, with type {bare}"},
            **controls,
        },
    }


def _controls(model: type[BaseModel]) -> dict[str, Any]:
    properties: dict[str, Any] = model.model_json_schema()["properties"]
    for schema in properties.values():
        schema.pop("title", None)
    return properties


def _models(*models: type[BaseModel]) -> dict[str, Any]:
    _, document = models_json_schema(
        [(model, "serialization") for model in models], ref_template=_REFERENCE
    )
    definitions: dict[str, Any] = document["$defs"]
    return definitions
