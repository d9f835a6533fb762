"""Whether two different answers part at a near tie: at a token that is as likely as another.

Two correct servers that round at different places may choose either of such tokens, and what
follows differs. The server that gave one of the answers is asked how likely it finds the other.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import httpx

# A token counts as nearly as likely as the best down to this share of its probability.
_LEAST_SHARE = 0.6
_ALTERNATIVES = 5
_SPECIAL = re.compile(rb"<\|\w+\|>")


def is_near_tie(
    url: str,
    body: bytes,
    other: str,
    timeout_seconds: float,
    headers: Mapping[str, str] | None = None,
) -> bool:
    """Whether the server at ``url`` finds the answer ``other`` nearly as likely as its own.

    Up to the first token at which they part; what follows hangs on that token.

    Args:
        body: of the chat completion request that both answered, streamed or not.
        headers: with the key, where the server wants one.
    """
    asked = {**json.loads(body), "stream": False, "logprobs": True, "top_logprobs": _ALTERNATIVES}
    asked.pop("stream_options", None)
    response = httpx.post(
        f"{url}/v1/chat/completions", json=asked, headers=headers, timeout=timeout_seconds
    )
    response.raise_for_status()
    logprobs = response.json()["choices"][0].get("logprobs") or {}
    return parts_at_near_tie(logprobs.get("content") or [], other)


def parts_at_near_tie(tokens: list[dict[str, Any]], other: str) -> bool:
    """As `is_near_tie`, from the tokens of an answer as the API gives them."""
    rest = other.encode()
    ahead = 0  # bytes of the rest that a token stands for which was nearly as likely before
    for token in tokens:
        text = _text(token)
        least = token["logprob"] + math.log(_LEAST_SHARE)
        others = {
            _text(entry)
            for entry in token["top_logprobs"]
            if entry["logprob"] >= least and _text(entry) != text
        }
        ties = [len(one) for one in others if _continues(rest, one)]
        if text and rest.startswith(text):
            # " a" begins " an" too: which of them it was, the next token tells.
            rest = rest[len(text) :]
            ahead = max([ahead, *ties]) - len(text)
            continue
        if not text and not rest:
            return True
        return bool(ties) or ahead > 0
    return not rest


def _text(token: dict[str, Any]) -> bytes:
    """What a token adds to the answer: tokens that end it add nothing."""
    text = bytes(token["bytes"] or ())
    return b"" if _SPECIAL.fullmatch(text) else text


def _continues(rest: bytes, text: bytes) -> bool:
    """Whether an answer of which ``rest`` is left can go on with a token of this text."""
    return rest.startswith(text) if text else not rest
