"""Checks a request's fields against the table, and how much each may ask for. Pure.

Most limits are constants: no honest request comes near them, and each keeps one cheap request from
costing the server much more than it cost the client.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from saccade.server.core.errors import InvalidRequest
from saccade.server.core.settings import RequestLimits
from saccade.server.request.fields import (
    ANSWER_FIELDS,
    BY_ROUTE,
    CONSTRAINT_KINDS,
    ROUTES,
    Treatment,
)

_MOST_FIELDS = 256  # of a body: the name of an unknown one is compared with all that are served
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
_MOST_LENGTH_PENALTY = 16  # an exponent of an answer's length
_LOGPROBS = ("logprobs", "top_logprobs", "prompt_logprobs")
# Characters of a grammar, a regular expression or a schema, which the engine compiles, and of what
# is handed on to it.
_LONGEST_GRAMMAR = 65_536
_GRAMMARS = ("response_format", "structured_outputs", "text", "vllm_xargs")
_LONGEST_STOP = 1024  # characters of one string at which to stop: every token looks for all

# vLLM puts the extra arguments beside the transfers', so they would reach them that way too.
_TRANSFERS = ("kv_transfer_params", "ec_transfer_params")
_RESPONSE_TOOLS = ("function", "custom", "namespace")
_NAMED_TOOLS = ("function", "custom")
_TOOL = '{"type": "function", "function": {"name": "...", "parameters": {...}}}'
_COMPACT = "disable_any_whitespace"
_ASKS_EMPTY = ("web_search_options",)  # is asked for by an object without fields, too
# How much alike two names are of which one is taken for a misspelling of the other.
_ALIKE = 0.82
SHAPED = ("tools", "tool_choice", "structured_outputs", "vllm_xargs", *_TRANSFERS)
"""Fields that `check_shapes` looks at."""


@dataclass(frozen=True)
class EngineOptions:
    """What the operator has chosen for the engine, of what requests may ask for.

    Attributes:
        accepts_kv_transfer: a transfer is configured.
        compact_json: JSON that is asked for has no white space but within strings.
        most_media: images and videos of one prompt, by modality.
    """

    accepts_kv_transfer: bool = False
    compact_json: bool = True
    most_media: Mapping[str, int] = field(default_factory=dict)


def check_names(body: Mapping[str, Any], route: str) -> list[str]:
    """The names that the table does not have.

    Raises:
        InvalidRequest: too many fields; or one that is refused, belongs to another route or looks
            like a misspelling of one that is served; names it.
    """
    if len(body) > _MOST_FIELDS:
        raise InvalidRequest(f"the body holds {len(body)} fields; {_MOST_FIELDS} is the most")
    known = BY_ROUTE[route]
    unknown = []
    for name, value in body.items():
        if value is None:  # is not there
            continue
        asks = bool(value) or name in _ASKS_EMPTY
        if (row := known.get(name)) is not None:
            if row.treatment is Treatment.REFUSED and asks and value not in row.harmless:
                raise InvalidRequest(f"{name} is not supported: {row.note}", name)
        elif others := [
            other
            for other, rows in BY_ROUTE.items()
            if name in rows and rows[name].treatment is not Treatment.HINT
        ]:
            # What shapes an answer says nothing where there is none.
            if asks and route not in "kd":
                raise InvalidRequest(
                    f"{name[:64]} is a field of {ROUTES[others[0]]}, not of this path", name
                )
        else:
            if alike := _served_alike(name[:64], route):
                raise InvalidRequest(
                    f"unknown field {name[:64]!r}; did you mean {alike[0]!r}?", name[:64]
                )
            unknown.append(name)
    return unknown


@lru_cache(maxsize=256)  # a tenth of a millisecond each, and clients send the same ones again
def _served_alike(name: str, route: str) -> list[str]:
    rows = BY_ROUTE[route].items()
    served = [other for other, row in rows if row.treatment is Treatment.HONOURED]
    return get_close_matches(name, served, 1, _ALIKE)


def check_amounts(body: Mapping[str, Any], limits: RequestLimits) -> None:
    """Refuses what asks for too much. Values of the wrong kind are left to vLLM.

    Raises:
        InvalidRequest: names the field, and the limit that it is beyond.
    """
    largest: dict[str, int | None] = {
        **dict.fromkeys(("n", "best_of"), limits.max_n),
        **dict.fromkeys((*ANSWER_FIELDS, "min_tokens"), limits.max_answer_tokens),
        **dict.fromkeys(_LOGPROBS, _MOST_LOGPROBS),
        "length_penalty": _MOST_LENGTH_PENALTY,
    }
    prompt = body.get("prompt")
    prompts = 1  # as a list of token ids is
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        prompts = len(prompt)
    for name, value in body.items():
        # bool is an int to Python; vLLM refuses or reads it as it likes.
        amount: float | None = value if isinstance(value, (int, float)) else None
        if isinstance(value, str) and name in largest:
            with suppress(ValueError):
                amount = float(value)
        most = largest.get(name)
        if isinstance(value, (int, dict)) and not _fits(value):
            raise InvalidRequest(f"{name} holds a number of more than 64 bits", name)
        if name in ANSWER_FIELDS and amount is not None and amount < (body.get("echo") is not True):
            raise InvalidRequest(f"{name} must be at least 1", name)
        if most is not None and amount is not None and amount > most:
            raise InvalidRequest(f"{name} is at most {most} on this server", name)
        if name in _LOGPROBS and amount == -1:
            raise InvalidRequest(f"{name} is at most {_MOST_LOGPROBS}; -1 is not served", name)
        if isinstance(value, dict) and name in _GRAMMARS:
            if len(json.dumps(value)) > _LONGEST_GRAMMAR:
                raise InvalidRequest(f"{name} is longer than {_LONGEST_GRAMMAR} characters", name)
        elif isinstance(value, (list, dict)) and name in _MOST_ENTRIES:
            entries, most = prompts if name == "prompt" else len(value), _MOST_ENTRIES[name]
            if entries > most:
                raise InvalidRequest(f"{name} holds {entries} entries; {most} is the most", name)
    n = body.get("n")
    if isinstance(n, int) and prompts * n > max(limits.max_n, prompts):
        message = f"{prompts} prompts with n={n} are more than {limits.max_n} answers"
        raise InvalidRequest(message, "n")
    stops = body.get("stop")
    for number, stop in enumerate(stops if isinstance(stops, list) else [stops]):
        if isinstance(stop, str) and len(stop) > _LONGEST_STOP:
            path = f"stop[{number}]" if isinstance(stops, list) else "stop"
            raise InvalidRequest(f"{path} has more than {_LONGEST_STOP} characters", path)


def check_shapes(body: Mapping[str, Any], route: str, engine: EngineOptions) -> None:
    """Refuses tools and constraints that vLLM would not understand, or silently drop.

    Raises:
        InvalidRequest: names the path.
    """
    if route == "d":
        tokens = body.get("tokens")
        if not isinstance(tokens, list):
            raise InvalidRequest("tokens must be a list of token ids", "tokens")
        for number, token in enumerate(tokens):
            if type(token) is not int or not 0 <= token < 2**31:
                raise InvalidRequest(
                    "a token is a number that is not negative", f"tokens[{number}]"
                )
    for name in () if engine.accepts_kv_transfer else _TRANSFERS:
        for holder, path in ((body, name), (body.get("vllm_xargs"), f"vllm_xargs.{name}")):
            if isinstance(holder, Mapping) and holder.get(name):
                raise InvalidRequest(f"{name} is not supported: no transfer is configured", path)
    tools = body.get("tools", [])
    if not isinstance(tools, list):
        raise InvalidRequest(f"tools must be a list, as [{_TOOL}]", "tools")
    for number, tool in enumerate(tools):
        _check_tool(tool, route, f"tools[{number}]")
    choice = body.get("tool_choice")
    if route == "r" and isinstance(choice, dict) and choice.get("type") not in _NAMED_TOOLS:
        message = "tool_choice is auto, none, required or one function"
        raise InvalidRequest(message, "tool_choice.type")
    outputs = body.get("structured_outputs")
    if outputs is not None:
        if not isinstance(outputs, dict):
            message = (
                f"structured_outputs must be an object with one of {', '.join(CONSTRAINT_KINDS)}"
            )
            raise InvalidRequest(message, "structured_outputs")
        for name, value in outputs.items():
            path = f"structured_outputs.{name[:64]}"
            if name == _COMPACT:
                if value is not None and value != engine.compact_json:
                    flag = "--structured-outputs-config.disable_any_whitespace"
                    raise InvalidRequest(f"the operator chooses it, by {flag}", path)
            elif name not in CONSTRAINT_KINDS and value:
                message = f"it is not supported; use one of {', '.join(CONSTRAINT_KINDS)}"
                raise InvalidRequest(message, path)
        if outputs.keys().isdisjoint(CONSTRAINT_KINDS):
            message = f"structured_outputs must have one of {', '.join(CONSTRAINT_KINDS)}"
            raise InvalidRequest(message, "structured_outputs")


def _fits(value: object) -> bool:
    """Whether all numbers in it are such as can be sent to the engine."""
    if isinstance(value, dict):
        return all(map(_fits, value.values()))
    if isinstance(value, list):
        return all(map(_fits, value))
    return not isinstance(value, int) or -(2**63) <= value < 2**64


def _check_tool(tool: object, route: str, path: str) -> None:
    if not isinstance(tool, dict):
        raise InvalidRequest(f"a tool must be an object, as {_TOOL}", path)
    kinds = ("function",) if route != "r" else _RESPONSE_TOOLS
    if (kind := tool.get("type", "function")) not in kinds:
        served = ", ".join(kinds)
        message = f"tools of type {str(kind)[:64]!r} are not served; use {served}"
        raise InvalidRequest(message, f"{path}.type")
    function: Any = tool
    if route != "r":
        function = tool.get("function")
        if not isinstance(function, dict):
            raise InvalidRequest(f"a tool must hold a function, as {_TOOL}", path)
        path += ".function"
    if not isinstance(name := function.get("name"), str) or not name:
        raise InvalidRequest("a tool must have a name", f"{path}.name")
    for other in ("input_schema", "inputSchema"):
        if function.get(other) is not None:
            raise InvalidRequest(f"{other} is not supported: use parameters", f"{path}.{other}")
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise InvalidRequest("parameters must be a JSON schema", f"{path}.parameters")
    if len(json.dumps(parameters)) > _LONGEST_GRAMMAR:
        message = f"parameters are longer than {_LONGEST_GRAMMAR} characters"
        raise InvalidRequest(message, f"{path}.parameters")
