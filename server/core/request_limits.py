"""How much one request may ask for besides its media. Checked before anything is read or run.

Most are constants: no honest request comes near them, and each keeps one cheap request from
costing the server much more than it cost the client.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saccade.server.core.errors import InvalidRequest

CHAT_ANSWER_FIELDS = ("max_completion_tokens", "max_tokens")
RESPONSE_ANSWER_FIELDS = ("max_output_tokens",)
ANSWER_FIELDS = (*CHAT_ANSWER_FIELDS, *RESPONSE_ANSWER_FIELDS)
"""Fields that bound the length of an answer, in tokens; of two the first one counts."""

# How many entries a field may hold.
_MOST_ENTRIES = {
    "messages": 4096,
    "tools": 128,  # OpenAI's own limit, as the next two
    "prompt": 128,
    "input": 4096,
    "stop": 16,
    "stop_token_ids": 128,
    "bad_words": 128,
    "logit_bias": 1024,
    "allowed_token_ids": 1024,
    "logprob_token_ids": 128,
    "documents": 128,
}
# Alternatives at one place; vLLM's --max-logprobs, which also bounds them, may be larger.
_MOST_LOGPROBS = 20
_LOGPROBS = ("logprobs", "top_logprobs", "prompt_logprobs")
# Characters of a grammar, a regular expression or a schema, which the engine compiles.
_LONGEST_GRAMMAR = 65_536
_GRAMMARS = ("response_format", "structured_outputs", "text")
_LONGEST_STOP = 1024  # characters of one string at which to stop: every token looks for all


@dataclass(frozen=True)
class RequestLimits:
    """The limits that an operator may want to move.

    Args:
        max_n: answers to one request, all its prompts together.
        max_answer_tokens: of each answer; None: what the context leaves.
    """

    max_n: int = 16
    max_answer_tokens: int | None = None

    def check(self, body: Mapping[str, Any]) -> None:
        """Refuses a request that asks for too much. Values of the wrong kind are left to vLLM.

        Raises:
            InvalidRequest: names the field and the limit.
        """
        for name in ("n", "best_of"):
            _check_most(body.get(name), name, self.max_n)
        for name in (*ANSWER_FIELDS, "min_tokens"):
            if self.max_answer_tokens is not None:
                _check_most(body.get(name), name, self.max_answer_tokens)
        for name in _LOGPROBS:
            _check_most(body.get(name), name, _MOST_LOGPROBS)
            if body.get(name) == -1:
                raise InvalidRequest(f"{name} is at most {_MOST_LOGPROBS}; -1 is not served", name)
        for name, most in _MOST_ENTRIES.items():
            _check_entries(body.get(name), name, most)
        _check_answers(body, self.max_n)
        for name in _GRAMMARS:
            _check_grammar(body.get(name), name)
        stops = body.get("stop")
        for number, stop in enumerate(stops if isinstance(stops, list) else [stops]):
            if isinstance(stop, str) and len(stop) > _LONGEST_STOP:
                path = f"stop[{number}]" if isinstance(stops, list) else "stop"
                raise InvalidRequest(f"{path} has more than {_LONGEST_STOP} characters", path)

    def bound(self, body: dict[str, Any], names: Sequence[str]) -> None:
        """Gives a request that names no length of its answer the longest that is allowed.

        Args:
            names: fields that may name it; the last one is set.
        """
        if self.max_answer_tokens is not None and all(body.get(name) is None for name in names):
            body[names[-1]] = self.max_answer_tokens


def _check_most(value: object, path: str, most: int) -> None:
    # bool is an int to Python; vLLM refuses or reads it as it likes.
    if isinstance(value, int | float) and value > most:
        raise InvalidRequest(f"{path} is at most {most} on this server", path)
    if isinstance(value, str) and value.isdecimal() and (len(value) > 9 or int(value) > most):
        raise InvalidRequest(f"{path} is at most {most} on this server", path)


def _check_entries(value: object, path: str, most: int) -> None:
    if not isinstance(value, list | dict) or len(value) <= most:
        return
    # A prompt of tokens is one prompt.
    if path == "prompt" and isinstance(value, list) and isinstance(value[0], int):
        return
    raise InvalidRequest(f"{path} holds {len(value)} entries; {most} is the most", path)


def _check_answers(body: Mapping[str, Any], most: int) -> None:
    prompts, n = body.get("prompt"), body.get("n") or 1
    if not isinstance(prompts, list) or not isinstance(n, int) or not prompts or n == 1:
        return
    if not isinstance(prompts[0], int) and len(prompts) * n > max(most, len(prompts)):
        raise InvalidRequest(f"{len(prompts)} prompts with n={n} are more than {most} answers", "n")


def _check_grammar(value: object, path: str) -> None:
    if isinstance(value, dict) and len(json.dumps(value)) > _LONGEST_GRAMMAR:
        raise InvalidRequest(f"{path} is longer than {_LONGEST_GRAMMAR} characters", path)
