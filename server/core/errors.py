"""Every way a request can fail, and the one answer they all get: OpenAI's error object.

The tree is :class:`ApiError` here and :class:`saccade.media.errors.MediaError` for images and
videos. Anything else that reaches :func:`install_error_handlers` is our own bug: it is logged and
answered without a word about the inside.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from saccade.media.errors import (
    ControlError,
    DecodeError,
    FetchError,
    LimitError,
    MediaError,
    UploadError,
)
from saccade.server.core.request_context import CURRENT_REQUEST
from saccade.server.core.routes import speaks_messages

logger = logging.getLogger("saccade.server")

INTERNAL_MESSAGE = "the server failed to answer this request; the reason is in its log"
CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
MODEL_NOT_FOUND = "model_not_found"
RETRY_AFTER_SECONDS = "5"
# What nginx logs when a client left; nobody receives it.
CLIENT_CLOSED_REQUEST = 499

_MEDIA_CODES: dict[type[MediaError], str] = {
    ControlError: "invalid_control",
    UploadError: "file_not_found",
    FetchError: "media_not_fetched",
    DecodeError: "media_not_decoded",
    LimitError: "media_too_large",
}


class ApiError(Exception):
    """A request that cannot be served, for a reason told to the caller.

    Args:
        message: one line for the caller.
        param: the field at fault, e.g. ``messages[0].content[1].type``.
        code: a short fixed word for programs, as OpenAI's ``code``.
        status: HTTP status; subclasses fix it.
    """

    status = 500
    code: str | None = None

    def __init__(
        self,
        message: str,
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.code
        self.status = status or self.status


class InvalidRequest(ApiError):
    """The request is malformed or asks for what this server does not do."""

    status = 400


class Unauthenticated(ApiError):
    """No API key, or a wrong one."""

    status = 401
    code = "invalid_api_key"


class RequestTooLarge(ApiError):
    """The body is larger than --max-request-bytes."""

    status = 413
    code = "request_too_large"


class BodyTimeout(ApiError):
    """The client did not send its body in time."""

    status = 408
    code = "request_timeout"
    # The rest of the body is not read, so nothing else can come on this connection.
    headers: ClassVar = {"Connection": "close"}


class Unavailable(ApiError):
    """Not now: another server, or this one later, may answer."""

    status = 503


class EngineDied(Unavailable):
    """There is no engine any more; the server is about to end."""

    code = "engine_dead"

    def __init__(self) -> None:
        super().__init__("the engine has died")


def error_body(error: ApiError) -> dict[str, Any]:
    """The OpenAI error object: ``{"error": {"message", "type", "param", "code"}}``."""
    if error.status >= 500:
        kind = "server_error"
    else:
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(
            error.status, "invalid_request_error"
        )
    return {
        "error": {
            "message": error.message,
            "type": kind,
            "param": error.param,
            "code": error.code,
        }
    }


_MESSAGES_KINDS = {
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def messages_error_body(error: ApiError) -> dict[str, Any]:
    """Anthropic's error object, with OpenAI's ``param`` and ``code`` in it."""
    other = "api_error" if error.status >= 500 else "invalid_request_error"
    told = error_body(error)["error"] | {"type": _MESSAGES_KINDS.get(error.status, other)}
    record = CURRENT_REQUEST.get(None)
    return {"type": "error", "error": told, "request_id": record.id if record else None}


class _ErrorResponse(JSONResponse):
    """An error, in the form of the API that was asked."""

    def __init__(self, error: ApiError, headers: Mapping[str, str]) -> None:
        super().__init__(error_body(error), error.status, headers=headers)
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if speaks_messages(scope):
            self.body = self.render(messages_error_body(self._error))
            self.headers["Content-Length"] = str(len(self.body))
        await super().__call__(scope, receive, send)


def error_response(error: ApiError, headers: Mapping[str, str] | None = None) -> Response:
    """The error as an HTTP answer; 429 and 503 carry ``Retry-After``."""
    merged = dict(headers or {})
    if error.status in (429, 503):
        merged.setdefault("Retry-After", RETRY_AFTER_SECONDS)
    return _ErrorResponse(error, merged)


def error_event(error: ApiError) -> str:
    """The error as a server-sent event, for a stream that has begun."""
    return f"data: {json.dumps(error_body(error))}\n\n"


def as_api_error(error: Exception) -> ApiError:
    """The tree's form of any exception; an unexpected one is logged with its traceback."""
    match error:
        case ApiError():
            return error
        case MediaError():
            code = next((c for kind, c in _MEDIA_CODES.items() if isinstance(error, kind)), None)
            return ApiError(error.message, error.param, code, error.status)
        case HTTPException(status_code=404):
            return ApiError("unknown path", code="not_found", status=404)
        case HTTPException(status_code=405):
            return ApiError(
                "this path does not take this method", code="method_not_allowed", status=405
            )
        case HTTPException():
            return ApiError(str(error.detail), status=error.status_code)
    logger.error("unexpected error", exc_info=error)
    return ApiError(INTERNAL_MESSAGE, code="internal_error", status=500)


def validation_error(errors: Sequence[Mapping[str, Any]]) -> InvalidRequest:
    """A 400 out of pydantic's error list; names the field as ``messages[0].role``.

    Where a union failed in every branch, ``param`` is what the branches' paths have in common.
    """
    first = field_path(errors[0]["loc"])
    if not first:
        return InvalidRequest(str(errors[0]["msg"]))
    paths = [path for error in errors if (path := field_path(error["loc"]))[:1] == first[:1]]
    common = first
    for path in paths:
        length = next(
            (i for i, (a, b) in enumerate(zip(common, path, strict=False)) if a != b),
            min(len(common), len(path)),
        )
        common = common[:length]
    param = format_path(common)
    message = str(errors[0]["msg"]) if len(paths) == 1 else _union_message(errors)
    return InvalidRequest(f"{param}: {message}", param)


def field_path(location: Sequence[str | int]) -> tuple[str | int, ...]:
    """Pydantic's ``loc`` without the names of validators and of union branches."""
    return tuple(
        part
        for part in location
        if isinstance(part, int)
        or (part.isidentifier() and part.islower() and part not in _BRANCHES)
    )


def format_path(path: Sequence[str | int]) -> str:
    """``("messages", 0, "role")`` as ``messages[0].role``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


# Names of scalar branches that pydantic puts into `loc` of a union.
_BRANCHES = frozenset({"str", "int", "float", "bool", "none", "list", "dict", "bytes"})


def _union_message(errors: Sequence[Mapping[str, Any]]) -> str:
    messages = list(dict.fromkeys(str(error["msg"]) for error in errors))
    return "; or ".join(messages[:3])


def install_error_handlers(app: FastAPI) -> None:
    """Makes every failure inside the application leave it in the same shape."""

    async def handle(_: Request, error: Exception) -> Response:
        if isinstance(error, ClientDisconnect):
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        headers = getattr(error, "headers", None)  # a 405's Allow
        return error_response(as_api_error(error), headers)

    for kind in (ApiError, MediaError, HTTPException, ClientDisconnect, Exception):
        app.add_exception_handler(kind, handle)
