"""``POST /v1/messages``: Anthropic's Messages API, and its count of tokens."""

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from saccade.server.engine.client import Engine
from saccade.server.flow.generate import Endpoint, edited, generate
from saccade.server.http.connection import EventStream
from saccade.server.request.parsed_request import COUNTED_MESSAGES, MESSAGES
from saccade.server.response.messages import as_message, message_events, messages_failure

router = APIRouter()

_MESSAGES = Endpoint(MESSAGES, Engine.chat)
_COUNT = Endpoint(COUNTED_MESSAGES, Engine.count_chat, runs_model=False)


@router.post("/v1/messages")
async def messages(request: Request) -> Response:
    """Anthropic's messages, with images, videos and Qwen's controls of them."""
    content = edited(await generate(request, _MESSAGES), messages_failure)
    if isinstance(content, dict):
        return JSONResponse(as_message(content))
    return EventStream(message_events(content))


@router.post("/v1/messages/count_tokens")
async def count_tokens(request: Request) -> Response:
    """The tokens of a prompt, media included. The model does not run."""
    answer = await generate(request, _COUNT)
    return JSONResponse({"input_tokens": answer.content["count"]})
