"""The routes of the server: the one table that middleware and the OpenAPI document read."""

from dataclasses import dataclass

from starlette.types import Scope

API_PREFIXES = ("/v1", "/tokenize", "/detokenize")
"""Of the API's paths, known or not; health, metrics and documentation are elsewhere.

The API takes a key, is refused while the server drains, and is not to be cached.
"""


@dataclass(frozen=True)
class Route:
    """One path.

    Attributes:
        method: ``get``, ``post`` or ``delete``.
        admitted: passes admission control: it runs the model, or fetches media.
        media: its prompt may hold images and videos, and its answer a vision report.
        streams: its answer may be server-sent events.
        probed: asked every few seconds by machines; logged at level DEBUG unless it fails.
    """

    path: str
    method: str
    admitted: bool = False
    media: bool = False
    streams: bool = False
    probed: bool = False


CHAT = Route("/v1/chat/completions", "post", admitted=True, media=True, streams=True)
COMPLETIONS = Route("/v1/completions", "post", admitted=True, streams=True)
RESPONSES = Route("/v1/responses", "post", admitted=True, media=True, streams=True)
RESPONSE_INPUT_TOKENS = Route("/v1/responses/input_tokens", "post", admitted=True)
MESSAGES = Route("/v1/messages", "post", admitted=True, media=True, streams=True)
COUNT_TOKENS = Route("/v1/messages/count_tokens", "post", admitted=True)
VISION_PLAN = Route("/v1/vision/plan", "post", admitted=True)
TOKENIZE = Route("/tokenize", "post", admitted=True)
DETOKENIZE = Route("/detokenize", "post", admitted=True)
FILES = Route("/v1/files", "post")
LISTED_FILES = Route("/v1/files", "get")
FILE = Route("/v1/files/{file_id}", "get")
DELETED_FILE = Route("/v1/files/{file_id}", "delete")
FILE_CONTENT = Route("/v1/files/{file_id}/content", "get")
MODELS = Route("/v1/models", "get")
MODEL = Route("/v1/models/{model}", "get")
HEALTH = Route("/health", "get", probed=True)
READY = Route("/ready", "get", probed=True)
VERSION = Route("/version", "get")
METRICS = Route("/metrics", "get", probed=True)

ROUTES = (
    *(CHAT, COMPLETIONS, RESPONSES, RESPONSE_INPUT_TOKENS, MESSAGES, COUNT_TOKENS),
    *(VISION_PLAN, TOKENIZE, DETOKENIZE),
    *(FILES, LISTED_FILES, FILE, DELETED_FILE, FILE_CONTENT),
    *(MODELS, MODEL, HEALTH, READY, VERSION, METRICS),
)


def path_of(scope: Scope) -> str:
    """The path of a request, without the prefix that a proxy has left on."""
    path: str = scope.get("path", "")
    return path.removeprefix(scope.get("root_path", ""))


def speaks_messages(scope: Scope) -> bool:
    """Whether a request is of Anthropic's API, which has errors and headers of its own."""
    return path_of(scope).startswith(MESSAGES.path)
