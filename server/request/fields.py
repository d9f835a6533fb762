"""Fields of a request's body: how much each may ask for, which are refused. The one table. Pure.

Most limits are constants: no honest request comes near them, and each keeps one cheap request from
costing the server much more than it cost the client.
"""

import json
from collections.abc import Mapping
from typing import Any

from saccade.server.core.errors import InvalidRequest
from saccade.server.core.settings import RequestLimits

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

# They would change how media are processed for everybody, hand the engine something it trusts, or
# make it talk to hosts that the client names.
_EVERYWHERE = {
    "mm_processor_kwargs": "controls of images and videos belong beside them",
    "media_io_kwargs": "controls of images and videos belong beside them",
    "prompt_embeds": "embeddings from clients are not served",
    "chat_template": "the server's template is used",
    "priority": "the server orders requests by what they take",
}
# vLLM puts the extra arguments beside the transfers', so they would reach them that way too.
_TRANSFERS = ("kv_transfer_params", "ec_transfer_params")
# vLLM keeps responses for ever, in the memory of one of its processes, or drops these silently.
_STORED_RESPONSES = {
    "background": "responses are not stored",
    "previous_response_id": "responses are not stored; send the whole conversation as input",
    "conversation": "responses are not stored; send the whole conversation as input",
    "previous_input_messages": "send the whole conversation as input",
}
_RESPONSE_TOOLS = ("function", "custom", "namespace")
# They would cut off the beginning of a prompt, and media with it.
TRUNCATIONS = ("truncate_prompt_tokens", "truncation")

REFUSED_FIELDS = (*_EVERYWHERE, *_TRANSFERS, *_STORED_RESPONSES)
"""What the OpenAPI document leaves out of vLLM's schemas."""


def check_fields(
    body: Mapping[str, Any], limits: RequestLimits, accepts_kv_transfer: bool, stores: bool
) -> None:
    """Refuses what this server does not take. Values of the wrong kind are left to vLLM.

    Args:
        accepts_kv_transfer: a transfer is configured.
        stores: it is the Responses API, which would store its answers and run tools by itself.

    Raises:
        InvalidRequest: names the field, and the limit that it is beyond.
    """
    for name, why in (_EVERYWHERE | _STORED_RESPONSES if stores else _EVERYWHERE).items():
        if body.get(name):
            raise InvalidRequest(f"{name} is not supported: {why}", name)
    extra = body.get("vllm_xargs")
    for name in () if accepts_kv_transfer else _TRANSFERS:
        for holder, path in ((body, name), (extra, f"vllm_xargs.{name}")):
            if isinstance(holder, Mapping) and holder.get(name):
                raise InvalidRequest(f"{name} is not supported: no transfer is configured", path)
    tools = body.get("tools")
    for number, tool in enumerate(tools if stores and isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind not in _RESPONSE_TOOLS:
            served = ", ".join(_RESPONSE_TOOLS)
            raise InvalidRequest(
                f"tools of type {str(kind)[:64]!r} are not served; use {served}",
                f"tools[{number}].type",
            )

    largest: dict[str, int | None] = {
        **dict.fromkeys(("n", "best_of"), limits.max_n),
        **dict.fromkeys((*ANSWER_FIELDS, "min_tokens"), limits.max_answer_tokens),
        **dict.fromkeys(_LOGPROBS, _MOST_LOGPROBS),
    }
    prompt = body.get("prompt")
    prompts = 1  # as a list of token ids is
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        prompts = len(prompt)
    for name, value in body.items():
        # bool is an int to Python; vLLM refuses or reads it as it likes.
        amount: float | None = value if isinstance(value, int | float) else None
        if isinstance(value, str) and value.isdecimal():
            amount = int(value[:10])
        most = largest.get(name)
        if most is not None and amount is not None and amount > most:
            raise InvalidRequest(f"{name} is at most {most} on this server", name)
        if name in _LOGPROBS and amount == -1:
            raise InvalidRequest(f"{name} is at most {_MOST_LOGPROBS}; -1 is not served", name)
        if isinstance(value, dict) and name in _GRAMMARS:
            if len(json.dumps(value)) > _LONGEST_GRAMMAR:
                raise InvalidRequest(f"{name} is longer than {_LONGEST_GRAMMAR} characters", name)
        elif isinstance(value, list | dict) and name in _MOST_ENTRIES:
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
