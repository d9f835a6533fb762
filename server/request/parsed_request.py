"""A request body -> what the server works with: the fields for vLLM, the media, the options. Pure.

Every 400 about the body is raised here, before anything is fetched or run, but for what vLLM's
request models say of their own fields.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from saccade.media.controls import validate_fields
from saccade.server.core.errors import InvalidRequest
from saccade.server.core.settings import RequestLimits
from saccade.server.request.fields import (
    ANSWER_FIELDS,
    CHAT_ANSWER_FIELDS,
    RESPONSE_ANSWER_FIELDS,
    TRUNCATIONS,
    check_fields,
)
from saccade.server.request.message_parts import MediaPart, read_messages
from saccade.server.request.response_items import read_input
from saccade.server.request.vision_options import VisionOptions


@dataclass(frozen=True)
class BodyFormat:
    """How the bodies of one endpoint hold their prompt.

    Attributes:
        prompt_field: where the prompt is.
        read_media: gives the prompt for vLLM, and the media in it; None: it takes none.
        answer_fields: any of which bounds the answer; without one it gets the longest allowed.
        vision: it may have the field ``vision``.
        stores: OpenAI would store its answers.
    """

    prompt_field: str
    read_media: Callable[[object], tuple[object, list[MediaPart]]] | None = read_messages
    answer_fields: tuple[str, ...] = ()
    vision: bool = True
    stores: bool = False


CHAT = BodyFormat("messages", answer_fields=CHAT_ANSWER_FIELDS)
COUNTED_CHAT = BodyFormat("messages")
RESPONSE = BodyFormat("input", read_input, RESPONSE_ANSWER_FIELDS, stores=True)
COMPLETION = BodyFormat("prompt", read_media=None, vision=False)
TOKENIZATION = BodyFormat("messages", vision=False)


@dataclass(frozen=True)
class ParsedRequest:
    """One request.

    Attributes:
        body: as vLLM takes it; a medium is named by its index in ``media``.
        prompt_field: where the prompt is in it.
        media: in the order of the prompt.
        vision: what the answer is to say of them.
    """

    body: Mapping[str, Any]
    prompt_field: str
    media: tuple[MediaPart, ...]
    vision: VisionOptions

    @property
    def prompt(self) -> object:
        """What reaches the model, media aside."""
        return self.body.get(self.prompt_field)

    @property
    def answer_tokens(self) -> int | None:
        """How many tokens each completion may have; None: the body does not say.

        A field of a wrong type counts as absent, here and below: vLLM rejects it.
        """
        counts = (self.body.get(name) for name in ANSWER_FIELDS)
        return next((count for count in counts if type(count) is int and count > 0), None)

    @property
    def completions(self) -> int:
        """How many completions it asks for, of all its prompts together.

        A list of text completions is several prompts, unless of token ids.
        """
        count, prompt = self.body.get("n"), self.prompt
        completions = count if type(count) is int and count > 0 else 1
        if self.prompt_field != COMPLETION.prompt_field or not isinstance(prompt, list):
            return completions
        return completions * (1 if all(type(token) is int for token in prompt) else len(prompt))

    def path_of(self, modality: str, index: int) -> str:
        """The place in the request of one of the media of a modality."""
        return [part.path for part in self.media if part.modality == modality][index]


def parse_request(
    body: Mapping[str, Any],
    form: BodyFormat,
    limits: RequestLimits,
    accepts_kv_transfer: bool = False,
    most_media: Mapping[str, int] = MappingProxyType({}),
) -> ParsedRequest:
    """Checks a body and takes it apart; ``body`` stays as it is.

    Args:
        most_media: of each modality in one prompt, as the engine limits them.

    Raises:
        InvalidRequest: a field that is refused, unknown or out of range; names it.
        ControlError: likewise, a control of a medium.
    """
    body = dict(body)
    names, longest = form.answer_fields, limits.max_answer_tokens
    if names and longest is not None and all(body.get(name) is None for name in names):
        body[names[-1]] = longest
    vision = VisionOptions()
    if form.vision and (options := body.pop("vision", None)) is not None:
        if not isinstance(options, dict):
            raise InvalidRequest("vision must be an object", "vision")
        vision = VisionOptions(**validate_fields(VisionOptions, options, "vision", InvalidRequest))
        if vision.history == "source" and "source" not in (vision.coordinates, vision.times):
            raise InvalidRequest(
                "history: source needs coordinates or times: source, which it reverses",
                "vision.history",
            )
    check_fields(body, limits, accepts_kv_transfer, form.stores)
    media: list[MediaPart] = []
    field = form.prompt_field
    if form.read_media is not None:
        prompt, media = form.read_media(body.pop(field, None))
        if prompt is not None:  # which vLLM says in better words of none than of null
            body[field] = prompt
    for modality, most in most_media.items():
        paths = [part.path for part in media if part.modality == modality]
        if len(paths) > most:
            raise InvalidRequest(
                f"at most {most} {modality}(s) may be in one prompt (--limit-mm-per-prompt)",
                paths[most],
            )
    for name in TRUNCATIONS if media else ():
        if body.get(name) not in (None, "disabled"):
            raise InvalidRequest("a prompt with media is not cut off", name)
    return ParsedRequest(body, field, tuple(media), vision)
