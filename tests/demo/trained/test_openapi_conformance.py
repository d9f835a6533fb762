"""The server held against its own OpenAPI document, by requests that schemathesis makes of it."""

import base64
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

DEMO_MEDIA = Path(__file__).parents[3] / "demo" / "media"
CHECKS = (
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
)
IMAGE = (DEMO_MEDIA / "shapes.jpg").read_bytes()
# What generated text never is.
REAL = {
    "image": f"data:image/jpeg;base64,{base64.b64encode(IMAGE).decode()}",
    "video": "data:video/mp4;base64,"
    + base64.b64encode((DEMO_MEDIA / "events.mp4").read_bytes()).decode(),
}
ANSWER_TOKENS = {
    "/v1/chat/completions": "max_completion_tokens",
    "/v1/completions": "max_tokens",
    "/v1/responses": "max_output_tokens",
    "/v1/messages": "max_tokens",
}


OPERATIONS = [
    *(("POST", path) for path in ANSWER_TOKENS),
    *(("POST", path) for path in ("/v1/vision/plan", "/tokenize", "/detokenize")),
    ("POST", "/v1/messages/count_tokens"),
    ("POST", "/v1/responses/input_tokens"),
    *(("GET", path) for path in ("/v1/models", "/v1/models/{model}", "/health")),
    *(("GET", path) for path in ("/v1/files", "/v1/files/{file_id}")),
    *(("GET", "/v1/files/{file_id}/content"), ("DELETE", "/v1/files/{file_id}")),
    ("POST", "/v1/files"),
    *(("GET", path) for path in ("/ready", "/version", "/metrics")),
]


@pytest.fixture(scope="module")
def document(trained_server):
    document = schemathesis.openapi.from_dict(httpx.get(trained_server + "/openapi.json").json())
    document.config.update(base_url=trained_server)
    return document


def test_every_operation_is_asked(document):
    found = {(one.ok().method.upper(), one.ok().path) for one in document.get_all_operations()}
    assert found == set(OPERATIONS)


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [(*one, GenerationMode.POSITIVE) for one in OPERATIONS]
    + [(*one, GenerationMode.NEGATIVE) for one in OPERATIONS if one[0] == "POST"],
)
def test_answers_are_as_described(document, method, path, mode):
    statuses = Counter()

    @settings(
        max_examples=25,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(document[path][method].as_strategy(generation_mode=mode))
    def ask(case):
        if isinstance(case.body, dict):
            case.body = likelier(case.body)
            field = ANSWER_TOKENS.get(path)
            if field and (type(case.body.get(field)) is not int or case.body[field] > 4):
                case.body[field] = 4
        if (
            isinstance(case.body, dict)
            and path == "/v1/files"
            and len(case.body.get("file", "")) % 2
        ):
            case.body["file"] = IMAGE
        if "file_id" in (case.path_parameters or ()) and len(case.path_parameters["file_id"]) % 2:
            case.path_parameters["file_id"] = uploaded(document.config.base_url)
        if "model" in (case.path_parameters or ()) and len(case.path_parameters["model"]) % 2:
            case.path_parameters["model"] = "demo"
        answer = case.call_and_validate(checks=CHECKS, timeout=120)
        statuses[answer.status_code] += 1

    ask()
    # Not only refusals have been seen.
    assert 200 in statuses or mode is GenerationMode.NEGATIVE, statuses


def uploaded(url: str) -> str:
    """The id of a file that nobody has deleted yet."""
    form = {"files": {"file": ("a.jpg", IMAGE)}, "data": {"purpose": "vision"}}
    return httpx.post(f"{url}/v1/files", **form).json()["id"]


def likelier(value: Any, kind: str = "") -> Any:
    """The value with real media, a prompt of words and the served model where it is generated."""
    if isinstance(value, dict):
        return {
            key: "demo"
            if key == "model" and isinstance(one, str) and len(one) != 1
            else "A star"
            if key == "prompt" and len(str(one)) % 2
            else likelier(one, key.partition("_")[0] if key != "url" else kind)
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [likelier(one, kind) for one in value]
    # Every other one stays what it is.
    return REAL[kind] if kind in REAL and isinstance(value, str) and len(value) % 2 else value
