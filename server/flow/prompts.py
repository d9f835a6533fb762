"""The prompt in a request body: what clients may not say, and its media on their way."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from saccade.server.core.errors import InvalidRequest
from saccade.server.engine.client import Engine
from saccade.server.engine.prompt.chat_templates import MediaNotInPrompt
from saccade.server.flow.gate import FetchGate
from saccade.server.flow.media import Load, PreparedMessages, load_medium, prepared_messages
from saccade.server.flow.services import Services
from saccade.server.request.message_parts import MediaSlot, read_messages
from saccade.server.request.response_items import read_input

# Fields of vLLM's requests that would change how media are processed for everybody, hand the
# engine something it trusts, or make it talk to hosts that the client names.
_REFUSED_FIELDS = {
    "mm_processor_kwargs": "controls of pictures and clips belong beside them",
    "media_io_kwargs": "controls of pictures and clips belong beside them",
    "prompt_embeds": "embeddings from clients are not served",
    "chat_template": "the server's template is used",
    "priority": "the server orders requests by what they cost",
}
_TRANSFER_FIELDS = ("kv_transfer_params", "ec_transfer_params")


@dataclass(frozen=True)
class PromptForm:
    """How a kind of request holds its prompt.

    Attributes:
        field: where its messages are, and their media.
        read: finds the media.
        answer_fields: any of which bounds the answer, in tokens.
    """

    field: str
    read: Callable[[object], tuple[object, list[MediaSlot]]]
    answer_fields: tuple[str, ...]


CHAT = PromptForm("messages", read_messages, ("max_tokens", "max_completion_tokens"))
RESPONSE = PromptForm("input", read_input, ("max_output_tokens",))


@asynccontextmanager
async def prepared_prompt(
    services: Services,
    body: dict[str, Any],
    form: PromptForm,
    load: Load = load_medium,
    gate: FetchGate | None = None,
) -> AsyncIterator[PreparedMessages]:
    """Checks what ``body`` says of the prompt, loads its media and puts handles in their places.

    Args:
        load: `load_blank` where the prompt is only counted.
        gate: where the request is admitted, between the plans of its media and their decoding.

    Raises:
        InvalidRequest, MediaError: by path.
        ApiError: the gate's.
    """
    services.settings.request_limits.check(body)
    refuse_fields(body, services.engine)
    if body.get(form.field) is None:
        body.pop(form.field, None)  # which vLLM says in better words than what it says of null
    async with prepared_messages(
        body.get(form.field), services.loader, services.handles, form.read, load, gate
    ) as prepared:
        if form.field in body:
            body[form.field] = prepared.messages
        if prepared.seen:
            _refuse_truncation(body)
        try:
            yield prepared
        except MediaNotInPrompt as error:
            error.param = prepared.path_of(error.modality, error.index)
            raise


def refuse_fields(body: Mapping[str, Any], engine: Engine) -> None:
    """Refuses fields of vLLM's requests that clients shall not have.

    Raises:
        InvalidRequest: names the field.
    """
    for name, why in _REFUSED_FIELDS.items():
        if body.get(name):
            raise InvalidRequest(f"{name} is not supported: {why}", name)
    if engine.takes_transfers:
        return
    # vLLM puts the extra arguments beside the transfers', so they would reach them that way too.
    extra = body.get("vllm_xargs")
    for name in _TRANSFER_FIELDS:
        for holder, path in ((body, name), (extra, f"vllm_xargs.{name}")):
            if isinstance(holder, Mapping) and holder.get(name):
                raise InvalidRequest(f"{name} is not supported: no transfer is configured", path)


def _refuse_truncation(body: Mapping[str, Any]) -> None:
    """Options that would cut off the beginning of a prompt, and media with it."""
    for name in ("truncate_prompt_tokens", "truncation"):
        if body.get(name) not in (None, "disabled"):
            raise InvalidRequest("a prompt with media is not cut off", name)
