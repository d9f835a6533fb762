"""A request body -> what the server works with: the fields for vLLM, the media, the options. Pure.

Every 400 about the body is raised here, before anything is fetched or run, but for what vLLM's
request models say of their own fields.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from saccade.media.controls import validate_fields
from saccade.media.errors import MediaError
from saccade.server.core.errors import ApiError, InvalidRequest
from saccade.server.core.settings import RequestLimits
from saccade.server.request.field_checks import (
    SHAPED,
    EngineOptions,
    check_amounts,
    check_names,
    check_shapes,
)
from saccade.server.request.fields import (
    ANSWER_FIELDS,
    CHAT_ANSWER_FIELDS,
    RESPONSE_ANSWER_FIELDS,
)
from saccade.server.request.media_defaults import DEFAULT_NAMES, take_media_defaults
from saccade.server.request.media_parts import MediaPart
from saccade.server.request.message_parts import MessageReader
from saccade.server.request.messages_body import (
    Translation,
    path_sent,
    to_chat,
    to_counted_chat,
)
from saccade.server.request.response_items import read_input
from saccade.server.request.schema_keywords import WITH_SCHEMAS, schema_warnings
from saccade.server.request.spellings import given, original, respelt
from saccade.server.request.vision import VisionOptions


@dataclass(frozen=True)
class BodyFormat:
    """How the bodies of one endpoint hold their prompt.

    Attributes:
        route: its letter in the table of fields.
        prompt_field: where the prompt is.
        read: gives the prompt for vLLM, and to a reader the media in it; None: it takes none.
        answer_fields: any of which bounds the answer; without one it gets the longest allowed.
        translate: makes a chat body of another API's.
    """

    route: str
    prompt_field: str
    read: Callable[[MessageReader, object], object] | None = MessageReader.read
    answer_fields: tuple[str, ...] = ()
    translate: Callable[[Mapping[str, Any]], Translation] | None = None


CHAT = BodyFormat("c", "messages", answer_fields=CHAT_ANSWER_FIELDS)
COUNTED_CHAT = BodyFormat("c", "messages")
MESSAGES = BodyFormat("m", "messages", translate=to_chat)
COUNTED_MESSAGES = BodyFormat("m", "messages", translate=to_counted_chat)
RESPONSE = BodyFormat("r", "input", read_input, RESPONSE_ANSWER_FIELDS)
COUNTED_RESPONSE = BodyFormat("r", "input", read_input)
COMPLETION = BodyFormat("t", "prompt", read=None)
TOKENIZATION = BodyFormat("k", "messages")
DETOKENIZATION = BodyFormat("d", "tokens", read=None)

# They would cut off the beginning of a prompt, and media with it.
TRUNCATIONS = ("truncate_prompt_tokens", "truncation")


@dataclass(frozen=True)
class ParsedRequest:
    """One request.

    Attributes:
        body: as vLLM takes it; a medium is named by its index in ``media``.
        prompt_field: where the prompt is in it.
        media: in the order of the prompt.
        vision: what the answer is to say of them.
        warnings: what was left out of the body.
        sent_as: names of its fields in the body that was sent, where they had others.
        places: paths in ``body`` -> those in another API's body that it was made of.
    """

    body: Mapping[str, Any]
    prompt_field: str
    media: tuple[MediaPart, ...]
    vision: VisionOptions
    warnings: tuple[str, ...] = ()
    sent_as: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)

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

    def path_sent(self, path: str | None) -> str | None:
        """A path in ``body`` as it was in the body that was sent."""
        # vLLM looks into messages late, when it has lost their place, and calls every prompt so.
        if path is not None and re.match(r"\[|messages\b", path) and "messages" not in self.body:
            path = "prompt" if "prompt" in self.body else self.prompt_field
        elif path is not None and path.startswith("["):
            path = "messages"
        path = original(path, self.sent_as)
        return None if path is None else path_sent(path, self.places)

    def path_of(self, modality: str, index: int) -> str:
        """The place in the request of one of the media of a modality."""
        return [part.path for part in self.media if part.modality == modality][index]


def parse_request(
    body: Mapping[str, Any],
    form: BodyFormat,
    limits: RequestLimits,
    engine: EngineOptions,
) -> ParsedRequest:
    """Checks a body and takes it apart; ``body`` stays as it is.

    Raises:
        InvalidRequest: a field that is refused, unknown or out of range; names it.
        ControlError: likewise, a control of a medium.
    """
    unknown = check_names(body, form.route)
    if form.translate is not None:
        return _parse_translated(form.translate(body), unknown, limits, engine)
    fields, sent_as = respelt(body, form.route)
    for name in unknown:
        fields.pop(name, None)
    names, longest = form.answer_fields, limits.max_answer_tokens
    if names and longest is not None and all(name not in fields for name in names):
        fields[names[-1]] = longest
    try:
        check_amounts(fields, limits)
        if form.route == "d" or not fields.keys().isdisjoint(SHAPED):
            check_shapes(fields, form.route, engine)
    except InvalidRequest as error:
        error.param = original(error.param, sent_as)
        raise
    vision = VisionOptions()
    if form.route in "cr" and (options := fields.pop("vision", None)) is not None:
        if not isinstance(options, dict):
            raise InvalidRequest("vision must be an object", "vision")
        options = given(options)
        vision = VisionOptions(**validate_fields(VisionOptions, options, "vision", InvalidRequest))
        if vision.history == "source" and "source" not in (vision.coordinates, vision.times):
            raise InvalidRequest(
                "history: source needs coordinates or times: source, which it reverses",
                "vision.history",
            )
    reader = MessageReader()
    if form.read is not None:
        if not fields.keys().isdisjoint(DEFAULT_NAMES):
            reader.defaults = take_media_defaults(fields)
        prompt = form.read(reader, fields.pop(form.prompt_field, None))
        if prompt is not None:  # which vLLM says in better words of none than of null
            fields[form.prompt_field] = prompt
    for modality, most in engine.most_media.items():
        paths = [part.path for part in reader.media if part.modality == modality]
        if len(paths) > most:
            raise InvalidRequest(
                f"at most {most} {modality}(s) may be in one prompt (--limit-mm-per-prompt)",
                paths[most],
            )
    for name in TRUNCATIONS if reader.media else ():
        if fields.get(name, "disabled") != "disabled":
            raise InvalidRequest("a prompt with media is not cut off", name)
    unknown = [name[:64] for name in unknown] + reader.unknown
    if unknown and limits.refuse_unknown:
        raise InvalidRequest(f"unknown field {unknown[0]!r}", unknown[0])
    warnings = [f"{path} is an unknown field, and was left out" for path in unknown]
    if not fields.keys().isdisjoint(WITH_SCHEMAS):
        warnings += schema_warnings(fields)
    return ParsedRequest(
        fields,
        form.prompt_field,
        tuple(reader.media),
        vision,
        tuple(warnings + reader.left_out),
        sent_as,
    )


def _parse_translated(
    made: Translation, unknown: list[str], limits: RequestLimits, engine: EngineOptions
) -> ParsedRequest:
    """A chat request that names what it is about as the body that it was made of."""
    if unknown and limits.refuse_unknown:
        raise InvalidRequest(f"unknown field {unknown[0][:64]!r}", unknown[0][:64])
    try:
        request = parse_request(made.body, COUNTED_CHAT, limits, engine)
    except (ApiError, MediaError) as error:
        if error.param is not None:
            error.param = path_sent(error.param, made.places)
        raise
    media = [replace(part, path=path_sent(part.path, made.places)) for part in request.media]
    warnings = [f"{name[:64]} is an unknown field, and was left out" for name in unknown]
    return replace(
        request,
        media=tuple(media),
        warnings=(*warnings, *request.warnings),
        places=made.places,
    )
