"""What vLLM says of errors, in its request models, serving classes and streams, as ours."""

import logging
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from traceback import clear_frames

from pydantic import ValidationError
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.exception_handling.error_response import create_error_response
from vllm.entrypoints.serve.exception_handling.utils import sanitize_message
from vllm.exceptions import VLLMValidationError
from vllm.v1.engine.exceptions import EngineDeadError

from saccade.server.core.errors import (
    CONTEXT_LENGTH_EXCEEDED,
    INTERNAL_MESSAGE,
    MODEL_NOT_FOUND,
    ApiError,
    EngineDied,
    InvalidRequest,
    validation_error,
)

logger = logging.getLogger("saccade.server")

# When and where xgrammar found a fault.
_PLACE_IN_XGRAMMAR = re.compile(r"\[[0-9:]+\] [^ ]+:[0-9]+: ")
BAD_TOOLS = "Invalid structural tag specification."
"""vLLM's words for a tool's schema that xgrammar cannot compile."""
NOTHING_FITS = "its grammar has come to where no token fits: no text that begins so obeys it"

# vLLM's words for an answer that its engine has ended with an error.
_ENDED = "Internal server error"
_ERROR_EVENT = 'data: {"error":'


class EndedByEngine(ApiError):
    """The engine has ended the answer with an error: a medium or cache that another engine was to
    send did not come, or the grammar allows no token more."""

    code = "internal_error"


async def checked_events(
    events: AsyncGenerator[str],
    engine_died: Callable[[], bool],
    named: Callable[[ApiError], ApiError] = lambda error: error,
) -> AsyncGenerator[str]:
    """The events of a vLLM stream up to the first that tells of an error, which is raised.

    Args:
        named: gives an error the field that it is about.
    """
    async with aclosing(events):
        async for event in events:
            if event.startswith(_ERROR_EVENT):
                if engine_died():
                    raise EngineDied
                told = ErrorResponse.model_validate_json(event.removeprefix("data: "))
                raise named(response_error(told))
            yield event


def api_error(error: Exception) -> ApiError:
    """What vLLM's request models and serving classes raise, as ApiError."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ValidationError):
        return _validation_error(error)
    if isinstance(error, OverflowError):  # what is sent to the engine cannot hold it
        return InvalidRequest("a number in the request has more than 64 bits")
    if isinstance(error, EngineDeadError):
        return EngineDied()
    # vLLM still raises bare ValueError and TypeError for mistakes of the client; its own table
    # knows which exceptions those are.
    known = response_error(create_error_response(error), error)
    if known.status >= 500 and not isinstance(known, EndedByEngine):  # which vLLM has logged
        logger.error("vLLM failed", exc_info=error)
    # Some of vLLM's errors are part of cycles, in which the prompt would stay, media and all.
    clear_frames(error.__traceback__)
    return known


def _validation_error(error: ValidationError) -> ApiError:
    errors = error.errors(include_url=False, include_input=False)
    cause = errors[0].get("ctx", {}).get("error")
    if isinstance(cause, VLLMValidationError):
        return ApiError(str(cause.args[0]), cause.parameter, status=400)
    return validation_error(errors)


def one_line(message: str) -> str:
    """An error in words for the caller: without line ends and places in xgrammar's source."""
    return _PLACE_IN_XGRAMMAR.sub("", " ".join(message.split()))


def response_error(response: ErrorResponse, cause: Exception | None = None) -> ApiError:
    info = response.error
    status, param, code = int(info.code), info.param, None
    message = info.message
    if isinstance(cause, VLLMValidationError):
        # Its text repeats the parameter and the value, which may be the whole prompt.
        message = sanitize_message(str(cause.args[0]))
    message = one_line(message)
    if status == 500 and message == _ENDED:
        return EndedByEngine(INTERNAL_MESSAGE)
    if status == 500:
        message, code = INTERNAL_MESSAGE, "internal_error"
    elif status == 404 and param == "model":
        code = MODEL_NOT_FOUND
    elif "maximum context length" in message or "exceeds the max_model_len" in message:
        # Said in several places of vLLM, with different parameters or none.
        param, code = "messages", CONTEXT_LENGTH_EXCEEDED
    return ApiError(message, param, code, status)
