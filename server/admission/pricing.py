"""What a request costs, and what the server can hold. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

from saccade.server.core.errors import ApiError
from saccade.server.core.settings import Settings

DEFAULT_ANSWER_TOKENS = 512
"""Charged for an answer whose length the request does not bound; most answers are shorter."""

SMALL_PROMPT_TOKENS = 1024
"""A prompt up to this size (text, or a picture of about 800,000 pixels) delays nobody much."""

_RESERVED_PART = 8  # one in so many parts of everything is kept for what is not large
_CHARACTERS_PER_TOKEN = 4  # of English text, about
_ANSWER_FIELDS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


class Kind(IntEnum):
    """Kinds of requests, the first to be served first."""

    TEXT = 0  # a small prompt without media
    SMALL = 1  # with a picture or two
    LARGE = 2


@dataclass(frozen=True)
class Price:
    """What one request costs."""

    prompt: int  # tokens of text, estimated, and of media, exact
    answer: int  # tokens that each answer may have
    visual: int = 0  # tokens of media alone
    answers: int = 1  # that are made from the prompt
    media_bytes: int = 0  # of media, encoded and planned
    param: str | None = None  # the field that costs most


@dataclass(frozen=True)
class Cost:
    """What is held of each resource."""

    tokens: int = 0
    sequences: int = 0
    media_bytes: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.tokens + other.tokens,
            self.sequences + other.sequences,
            self.media_bytes + other.media_bytes,
        )

    def __sub__(self, other: "Cost") -> "Cost":
        return self + Cost(-other.tokens, -other.sequences, -other.media_bytes)

    def at_most(self, limit: "Cost") -> "Cost":
        """Of each resource the smaller amount."""
        return Cost(
            min(self.tokens, limit.tokens),
            min(self.sequences, limit.sequences),
            min(self.media_bytes, limit.media_bytes),
        )

    def within(self, limit: "Cost") -> bool:
        """Whether no resource is over its limit."""
        return (
            self.tokens <= limit.tokens
            and self.sequences <= limit.sequences
            and self.media_bytes <= limit.media_bytes
        )


@dataclass(frozen=True)
class Capacity:
    """What one process may hold at a time, and how long others may wait."""

    total: Cost
    context: int  # tokens that prompt and answer of one request may have: the model's limit
    queued_requests: int
    queued_bytes: int  # of bodies and fetched media of requests that wait
    queue_seconds: float

    @property
    def reserve(self) -> Cost:
        """The part that large requests leave to small ones."""
        return Cost(
            self.total.tokens // _RESERVED_PART,
            # Of a single sequence nothing can be kept.
            min(self.total.sequences - 1, -(-self.total.sequences // _RESERVED_PART)),
            self.total.media_bytes // _RESERVED_PART,
        )

    @property
    def large(self) -> Cost:
        """What large requests may hold together, and therefore each alone."""
        return self.total - self.reserve

    @property
    def half_the_sequences(self) -> int:
        """What text may hold while others wait, and what one request is charged at most."""
        return max(1, self.total.sequences // 2)

    @property
    def media(self) -> Cost:
        """All but the sequences that requests with media leave free for the next text."""
        return self.total - Cost(sequences=self.reserve.sequences // 2)

    @property
    def large_queued(self) -> int:
        """Places of the queue that large requests may take."""
        return self.queued_requests - self.queued_requests // _RESERVED_PART

    def cost(self, price: Price) -> Cost:
        """What ``price`` is charged.

        The engine works off what is more than it can hold by turns, so that no request is charged
        more than all there is.
        """
        return Cost(
            min(price.prompt + price.answers * price.answer, self.large.tokens),
            min(price.answers, self.half_the_sequences),
            min(price.media_bytes, self.large.media_bytes),
        )

    def kind(self, price: Price) -> Kind:
        """Small is what fits into the reserve."""
        if price.prompt > SMALL_PROMPT_TOKENS or not self.cost(price).within(self.reserve):
            return Kind.LARGE
        return Kind.SMALL if price.media_bytes else Kind.TEXT

    def refusal(self, price: Price) -> ApiError | None:
        """Why a request of this price can never be served; None if it can."""
        # Text is only estimated here: what is too long with it, the engine refuses.
        if price.visual >= self.context:
            return ApiError(
                f"pictures and clips take {price.visual} tokens; "
                f"the model's maximum context length is {self.context} tokens",
                price.param,
                "context_length_exceeded",
                400,
            )
        if price.visual >= self.large.tokens:
            return ApiError(
                f"pictures and clips take {price.visual} tokens; this server "
                f"takes requests of up to {self.large.tokens} tokens",
                price.param,
                "request_too_large",
                413,
            )
        return None


@dataclass(frozen=True)
class EngineLimits:
    """What the engine can work on at a time."""

    cache_tokens: int  # of its KV cache
    sequences: int
    context: int  # tokens of one sequence


def engine_share(engine: EngineLimits, processes: int, settings: Settings) -> Capacity:
    """What each of so many processes before one engine may hold.

    Each takes at least one request of the longest kind: what they hold too much together then,
    the engine works off by turns.
    """
    longest = -(-engine.context * _RESERVED_PART // (_RESERVED_PART - 1)) + 1
    tokens = settings.max_inflight_tokens or max(longest, engine.cache_tokens // processes)
    return Capacity(
        Cost(
            tokens,
            max(1, engine.sequences // processes),
            # Half of it may be decoding, the other half on its way to the engine.
            2 * int(settings.max_decoding_bytes),
        ),
        engine.context,
        settings.max_queued_requests,
        int(settings.max_queued_bytes),
        settings.queue_timeout,
    )


@dataclass(frozen=True)
class Verdict:
    """Whether a request would be admitted."""

    admitted: Literal["now", "later", "never"]
    refusal: ApiError | None = None


def price_request(
    body: Mapping[str, Any],
    text: int,
    media: Sequence[tuple[str, int]] = (),
    media_bytes: int = 0,
    param: str = "messages",
    prompts: int = 1,
) -> Price:
    """The price of a request. Fields of a wrong type count as absent: vLLM refuses them.

    Args:
        body: of the request.
        text: tokens of the prompt, media aside; an estimate is enough.
        media: path and tokens of each medium.
        media_bytes: of the media, encoded and planned.
        param: the field that holds the prompt.
        prompts: how many prompts that is.
    """
    visual = sum(tokens for _, tokens in media)
    path, most = max(media, key=lambda medium: medium[1], default=(param, 0))
    asked = next((n for name in _ANSWER_FIELDS if (n := _count(body.get(name)))), None)
    return Price(
        prompt=visual + text,
        answer=asked or DEFAULT_ANSWER_TOKENS,
        visual=visual,
        answers=prompts * (_count(body.get("n")) or 1),
        media_bytes=media_bytes,
        param=path if 2 * most > visual else param,
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


def _count(value: object) -> int | None:
    return value if type(value) is int and value > 0 else None
