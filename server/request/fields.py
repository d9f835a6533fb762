"""Every top-level field of a request's body, by route: honoured, a hint, or refused. The one table.

Pure. ``docs/api.md`` shows it. A field that is not in it is left out, with a warning in the answer
and the log, unless the operator wants it refused; one that looks like a misspelling is refused.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

# Letters stand for routes in the table below.
ROUTES = {
    "c": "`/v1/chat/completions`, `/v1/vision/plan`",
    "r": "`/v1/responses`, `/v1/responses/input_tokens`",
    "t": "`/v1/completions`",
    "k": "`/tokenize`",
    "d": "`/detokenize`",
    "m": "`/v1/messages`, `/v1/messages/count_tokens`",
}


class Treatment(StrEnum):
    """What becomes of a field."""

    HONOURED = "honoured"
    HINT = "hint"  # changes no answer, so that leaving it out breaks no promise
    REFUSED = "refused"


@dataclass(frozen=True)
class Field:
    """A row of the table: fields of one kind.

    Attributes:
        names: separated by blanks.
        routes: that know them.
        treatment: on these routes.
        note: why, or what it means here.
        harmless: values, besides those that are false, which ask for nothing.
    """

    names: str
    routes: str
    treatment: Treatment
    note: str = ""
    harmless: tuple[Any, ...] = ()


def _honoured(names: str, routes: str, note: str = "") -> Field:
    return Field(names, routes, Treatment.HONOURED, note)


def _hint(names: str, routes: str, note: str = "") -> Field:
    return Field(names, routes, Treatment.HINT, note)


def _refused(names: str, routes: str, note: str, *harmless: Any) -> Field:
    return Field(names, routes, Treatment.REFUSED, note, harmless)


CONSTRAINTS = {
    "guided_json": "json",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
    "json_schema": "json",
    "format": "json",
    "regex": "regex",
    "grammar": "grammar",
    "ebnf": "grammar",
}
"""Other servers' names of constraints -> their place in ``structured_outputs``."""

CONSTRAINT_KINDS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
"""Places in ``structured_outputs``, of which a request fills one."""

CHAT_ANSWER_FIELDS = ("max_completion_tokens", "max_tokens")
RESPONSE_ANSWER_FIELDS = ("max_output_tokens",)
ANSWER_FIELDS = (*CHAT_ANSWER_FIELDS, *RESPONSE_ANSWER_FIELDS)
"""Fields that bound the length of an answer, in tokens; of two the first one counts."""

MEDIA_DEFAULTS = "min_pixels max_pixels total_pixels fps nframes min_frames max_frames"

_CONVERSATION = "send the whole conversation as input"
_RENDERING = "of vLLM's rendering routes, which are not served"

TABLE = (
    # The prompt.
    _honoured("model", "crtkdm"),
    _honoured("messages", "ckm"),
    _honoured("input instructions", "r"),
    _honoured("system", "m"),
    _honoured("prompt", "tk"),
    _honoured("tokens", "d"),
    _honoured("tools", "crkm", "an empty list is none"),
    _honoured("tool_choice", "crm"),
    _honoured("parallel_tool_calls", "cr"),
    _honoured("functions function_call", "ck", "older names of `tools` and `tool_choice`"),
    _honoured("chat_template_kwargs", "crkm"),
    _honoured("add_generation_prompt continue_final_message", "ck"),
    _honoured("add_special_tokens", "ctk"),
    _honoured("echo", "ct"),
    _honoured("truncate_prompt_tokens truncation_side", "ct", "not with media"),
    _honoured("truncation", "r", "not with media"),
    # Images and videos.
    _honoured("vision", "crm"),
    _honoured(
        MEDIA_DEFAULTS,
        "crkm",
        "for the request's images or videos whose own controls say nothing of it",
    ),
    _honoured(
        "vl_high_resolution_images",
        "crkm",
        "`true`: images of up to 12,845,056 pixels keep their size",
    ),
    _honoured(
        "media_io_kwargs",
        "crk",
        "`video.fps` and `video.num_frames` (at most so many; -1: all), for videos that say "
        "neither",
    ),
    _honoured(
        "mm_processor_kwargs", "crk", "`min_pixels`, `max_pixels` and `fps`, as at the top level"
    ),
    # The answer.
    _honoured("max_tokens", "ct"),
    _honoured("max_tokens", "m", "must be given, but where tokens are counted"),
    _honoured("max_completion_tokens", "c"),
    _honoured("max_output_tokens include", "r"),
    _honoured("stream", "crtm"),
    _honoured("stream_options stream_interval n min_tokens use_beam_search length_penalty", "ct"),
    _honoured("temperature top_p top_k", "crtm"),
    _honoured("min_p seed stop stop_token_ids ignore_eos", "crt"),
    _honoured("stop_sequences", "m"),
    _honoured("output_config output_format", "m", "a `format` of type `json_schema`"),
    _honoured("frequency_penalty presence_penalty repetition_penalty logit_bias", "crt"),
    _honoured("include_stop_str_in_output skip_special_tokens", "crt"),
    _honoured("spaces_between_special_tokens bad_words allowed_token_ids", "ct"),
    _honoured("repetition_detection watermarking", "ct"),
    _honoured("watermarking", "rm"),
    _honoured("logprobs prompt_logprobs logprob_token_ids return_tokens_as_token_ids", "ct"),
    _honoured("top_logprobs", "cr"),
    _honoured("return_token_ids", "ct"),
    _honoured("return_prompt_text", "c"),
    _honoured("return_token_strs", "k"),
    _honoured("enable_response_messages", "r"),
    _honoured(
        "response_format", "ct", "its `schema` may stand in it, too, as at Together and llama.cpp"
    ),
    _honoured("text", "r"),
    _honoured("structured_outputs", "crt"),
    _honoured(
        " ".join(CONSTRAINTS),
        "crt",
        "other names of `structured_outputs`; `format` is Ollama's: a schema, or `json`",
    ),
    _honoured("cache_salt vllm_xargs", "crtm"),
    _honoured("request_id", "crt"),
    _honoured("kv_transfer_params ec_transfer_params", "crtm", "where a transfer is configured"),
    # What leaving out changes no answer.
    _hint("user store session_id", "crtkd"),
    _hint("metadata", "crtkdm"),
    _hint("service_tier", "crtkdm"),
    _hint("safety_identifier prompt_cache_key prompt_cache_retention", "crtkd"),
    _hint("prediction keep_alive cache_prompt", "crtkd", "would only make it faster"),
    _hint(
        "reasoning reasoning_effort include_reasoning enable_thinking think "
        "thinking_budget thinking_token_budget",
        "crt",
        "no model here reasons",
    ),
    _hint("thinking", "crtm", "no model here reasons"),
    _hint("diagnostics inference_geo speed user_profile_id workspace_id", "m"),
    _hint("cache_control", "m", "the engine caches what it has room for"),
    _hint("max_tool_calls", "r", "the server has no tools of its own"),
    _hint("models provider route transforms", "crt", "of routers: there is one model here"),
    _hint("stream_options", "r"),
    _hint("verbosity", "c"),
    _hint(
        "return_token_offsets routed_experts_prompt_start",
        "crt",
        _RENDERING,
    ),
    _hint("mm_payload return_mm_kwargs", "crtm", _RENDERING),
    # What is believed in, and not done here.
    _refused("prompt_embeds", "crtk", "embeddings from clients are not served"),
    _refused("multi_modal_data", "crtk", "images and videos are parts of a message"),
    _refused(
        "image images image_url video videos video_url audio",
        "crtk",
        "media are parts of a message: image_url and video_url",
    ),
    _refused(
        "resized_width resized_height video_start video_end sample_fps raw_fps detail",
        "crk",
        "it belongs beside one image or video",
    ),
    _refused("chat_template", "crk", "the server's template is used"),
    _refused(
        "documents",
        "crk",
        "put them into a message, or into chat_template_kwargs where your template takes them",
    ),
    _refused(
        "truncate_prompt_tokens truncation truncation_side",
        "k",
        "the whole prompt is counted",
        "disabled",
    ),
    _refused(
        "skip_special_tokens spaces_between_special_tokens", "d", "the text is of all the tokens"
    ),
    _refused("suffix", "t", "the model fills no gaps"),
    _refused("best_of", "crt", "use n", 1),
    _refused("priority", "crt", "the server orders requests by what they take"),
    _refused("modalities", "cr", "answers are text", ["text"]),
    _refused("web_search_options enable_search", "cr", "the server searches nothing"),
    _refused("guided_decoding_backend guided_whitespace_pattern", "crt", "the operator chooses it"),
    _refused("system template", "crt", "it goes into a message of role system"),
    _refused("stop_sequences max_new_tokens", "crt", "use stop and max_tokens"),
    _refused("options", "crt", "Ollama's options go to the top level, by OpenAI's names"),
    _refused("extra_body", "crtkd", "its fields go to the top level"),
    _refused("background", "r", "responses are not stored"),
    _refused(
        "previous_response_id conversation", "r", f"responses are not stored; {_CONVERSATION}"
    ),
    _refused("previous_input_messages", "r", _CONVERSATION),
    _refused("prompt", "r", "prompts are not stored"),
    _refused("context_management", "rm", "conversations are not compacted"),
    _refused("mcp_servers container", "m", "the server has no tools of its own"),
)


BY_ROUTE = {
    route: {name: row for row in TABLE if route in row.routes for name in row.names.split()}
    for route in ROUTES
}
"""route -> name -> row."""
