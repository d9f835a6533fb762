"""Estimates what a request will take, from its body and the plans of its media. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from saccade.server.request.parsed_request import ParsedRequest

DEFAULT_ANSWER_TOKENS = 512
"""Charged for an answer whose length the request does not bound; most answers are shorter."""

_CHARACTERS_PER_TOKEN = 4  # of English text, about


class RequestClass(IntEnum):
    """Classes of requests, the first to be served first; also vLLM's ``priority``."""

    TEXT = 0  # a small prompt without media
    SMALL = 1  # with an image or two
    LARGE = 2


@dataclass(frozen=True)
class RequestEstimate:
    """What one request will take."""

    prompt: int  # tokens of text, estimated, and of media, exact
    answer: int  # tokens that each completion may have
    visual: int = 0  # tokens of media alone
    completions: int = 1  # that are generated from the prompt
    media_bytes: int = 0  # of media, encoded and decoded
    param: str | None = None  # the field that takes most


def estimate_request(
    request: ParsedRequest, media_tokens: Sequence[int], media_bytes: int
) -> RequestEstimate:
    """The estimate of a request.

    Args:
        media_tokens: of each of its media.
        media_bytes: of the media, encoded and decoded.
    """
    visual, answer = sum(media_tokens), request.answer_tokens
    most = max(media_tokens, default=0)
    param = request.prompt_field
    if 2 * most > visual:
        param = request.media[media_tokens.index(most)].path
    return RequestEstimate(
        prompt=visual + text_tokens([request.prompt, request.body.get("tools")]),
        answer=DEFAULT_ANSWER_TOKENS if answer is None else answer,
        visual=visual,
        completions=request.completions,
        media_bytes=media_bytes,
        param=param,
    )


def text_tokens(value: object) -> int:
    """About so many tokens are in the text at any depth of ``value``; numbers are token ids."""
    if isinstance(value, str):
        return -(-len(value) // _CHARACTERS_PER_TOKEN)
    if isinstance(value, dict):
        return sum(map(text_tokens, value.values()))
    if isinstance(value, list):
        return sum(map(text_tokens, value))
    return 1
