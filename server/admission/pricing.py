"""What a request takes, and how much the server can hold. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from saccade.server.core.errors import ApiError
from saccade.server.core.settings import Settings
from saccade.server.request.parsed_request import ParsedRequest

DEFAULT_ANSWER_TOKENS = 512
"""Charged for an answer whose length the request does not bound; most answers are shorter."""

SMALL_PROMPT_TOKENS = 1024
"""A prompt up to this size (text, or an image of about 800,000 pixels) delays nobody much."""

_CHARACTERS_PER_TOKEN = 4  # of English text, about
_RESERVED_PART = 8  # one in so many parts of everything is kept for what is not large


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


@dataclass(frozen=True)
class Resources:
    """An amount of each resource."""

    tokens: int = 0
    sequences: int = 0
    media_bytes: int = 0

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(
            self.tokens + other.tokens,
            self.sequences + other.sequences,
            self.media_bytes + other.media_bytes,
        )

    def __sub__(self, other: "Resources") -> "Resources":
        return self + Resources(-other.tokens, -other.sequences, -other.media_bytes)

    def __and__(self, limit: "Resources") -> "Resources":
        """Of each resource the smaller amount, as of a `collections.Counter`."""
        return Resources(
            min(self.tokens, limit.tokens),
            min(self.sequences, limit.sequences),
            min(self.media_bytes, limit.media_bytes),
        )

    def __le__(self, limit: "Resources") -> bool:
        """Whether no resource is over its limit."""
        return (
            self.tokens <= limit.tokens
            and self.sequences <= limit.sequences
            and self.media_bytes <= limit.media_bytes
        )


@dataclass(frozen=True)
class AdmissionLimits:
    """What one process may hold at a time, and how long others may wait."""

    total: Resources
    context: int  # tokens that prompt and answer of one request may have: the model's limit
    queued_requests: int
    queued_bytes: int  # of bodies and fetched media of requests that wait
    queue_seconds: float

    @property
    def small_reserve(self) -> Resources:
        """The part that large requests leave to the others."""
        return Resources(
            self.total.tokens // _RESERVED_PART,
            # Of a single sequence nothing can be kept.
            min(self.total.sequences - 1, -(-self.total.sequences // _RESERVED_PART)),
            self.total.media_bytes // _RESERVED_PART,
        )

    @property
    def large_limit(self) -> Resources:
        """What large requests may hold together, and therefore each alone."""
        return self.total - self.small_reserve

    @property
    def text_sequence_limit(self) -> int:
        """Sequences of text while others wait, and what one request is charged at most."""
        return max(1, self.total.sequences // 2)

    @property
    def media_limit(self) -> Resources:
        """All but the sequences that requests with media leave free for the next text."""
        return self.total - Resources(sequences=self.small_reserve.sequences // 2)

    @property
    def large_queued(self) -> int:
        """Places of the queue that large requests may take."""
        return self.queued_requests - self.queued_requests // _RESERVED_PART

    def beside_large(self, large: Resources) -> Resources:
        """What text and small requests may hold so that ``large``, which is next, fits in."""
        left = self.total - Resources(sequences=self.small_reserve.sequences) - large
        return left if self.small_reserve <= left else self.small_reserve

    def classify(self, estimate: RequestEstimate) -> tuple[RequestClass, Resources]:
        """The request's class, and what it is charged: never more than all there is.

        Small is what fits into the reserve. The engine works off what is more than it can hold by
        turns.
        """
        charged = Resources(
            min(estimate.prompt + estimate.completions * estimate.answer, self.large_limit.tokens),
            min(estimate.completions, self.text_sequence_limit),
            min(estimate.media_bytes, self.large_limit.media_bytes),
        )
        if estimate.prompt > SMALL_PROMPT_TOKENS or not charged <= self.small_reserve:
            return RequestClass.LARGE, charged
        return (RequestClass.SMALL if estimate.media_bytes else RequestClass.TEXT), charged

    def refusal(self, visual: int, param: str | None = None) -> ApiError | None:
        """Why a request with so many tokens of media can never be served; None if it can.

        Args:
            param: the field that takes most.
        """
        # Text is only estimated here: what is too long with it, the engine rejects.
        if visual >= self.context:
            return ApiError(
                f"images and videos take {visual} tokens; "
                f"the model's maximum context length is {self.context} tokens",
                param,
                "context_length_exceeded",
                400,
            )
        if visual >= self.large_limit.tokens:
            return ApiError(
                f"images and videos take {visual} tokens; this server "
                f"takes requests of up to {self.large_limit.tokens} tokens",
                param,
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


def capacity_per_process(
    engine: EngineLimits, processes: int, settings: Settings
) -> AdmissionLimits:
    """What each of so many processes before one engine may hold.

    Each takes at least one request of the longest kind: what they hold too much together then,
    the engine works off by turns.
    """
    longest = -(-engine.context * _RESERVED_PART // (_RESERVED_PART - 1)) + 1
    tokens = settings.max_inflight_tokens or max(longest, engine.cache_tokens // processes)
    return AdmissionLimits(
        Resources(
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
