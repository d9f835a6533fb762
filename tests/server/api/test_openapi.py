"""The OpenAPI document is valid, complete, and says what the server does."""

import httpx
import jsonschema
import pytest
from openapi_spec_validator import validate

from saccade.media.controls import VideoFields


@pytest.fixture(scope="module")
def document(server):
    return httpx.get(server.url + "/openapi.json").json()


@pytest.fixture(scope="module")
def accepts(document):
    """Whether a value fits the schema of that name."""

    def fits(name, value):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        return jsonschema.Draft202012Validator(schema).is_valid(value)

    return fits


def operations(document):
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_it_is_valid(document):
    validate(document)


def test_every_route_that_is_posted_to_has_a_body_and_its_errors(document):
    posted = [(path, one) for path, method, one in operations(document) if method == "post"]
    assert {path for path, _ in posted} == {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/responses/input_tokens",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/files",
        "/v1/vision/plan",
        "/tokenize",
        "/detokenize",
    }
    for _, operation in posted:
        (taken,) = operation["requestBody"]["content"].values()
        assert taken["schema"]
        assert {"200", "400", "401", "404", "413", "415", "503"} <= set(operation["responses"])


def test_vision_is_asked_for_where_media_are(document):
    takers = {
        name
        for name, schema in document["components"]["schemas"].items()
        if "vision" in schema.get("properties", {}) and name.endswith("Request")
    }
    assert takers == {"ChatCompletionRequest", "ResponsesRequest"}


def test_every_control_is_described(document):
    part = document["components"]["schemas"]["VideoPart"]["properties"]
    inside = part["video_url"]["anyOf"][1]["properties"]
    for name in VideoFields.model_fields:
        assert part[name]["description"]
        assert inside[name] == part[name]


@pytest.mark.parametrize(
    ("name", "part", "taken"),
    [
        (
            "ImagePart",
            {"type": "image_url", "image_url": {"url": "data:,x"}, "max_pixels": 9},
            True,
        ),
        ("ImagePart", {"type": "image", "image": "data:,x", "detail": "low"}, True),
        ("ImagePart", {"type": "input_image", "image_url": "data:,x", "fps": 2}, False),
        ("ImagePart", {"type": "image_url", "image_url": "data:,x", "max_pixels": 0}, False),
        ("VideoPart", {"type": "video", "video": ["data:,x"], "sample_fps": 2.0}, True),
        ("VideoPart", {"type": "input_video", "video_url": "data:,x", "nframes": 1}, False),
    ],
)
def test_the_schema_refuses_what_the_server_refuses(server, accepts, name, part, taken):
    assert accepts(name, part) == taken
    body = {"model": "demo", "messages": [{"role": "user", "content": [part]}]}
    code = server.post(body).json()["error"]["code"]
    # What the schema takes is refused for its bytes, which are none; the rest for its controls.
    assert (code == "invalid_control") != taken


def test_examples_fit_their_schemas(document):
    shown = 0
    for _, _, operation in operations(document):
        body = operation.get("requestBody", {"content": {"application/json": {}}})
        (body,) = body["content"].values()
        for example in body.get("examples", {}).values():
            schema = {**body["schema"], "components": document["components"]}
            jsonschema.Draft202012Validator(schema).validate(example["value"])
            shown += 1
    assert shown >= 10


def test_answers_fit_their_schemas(server, accepts, image_url, clip_url):
    parts = [
        {"type": "image_url", "image_url": {"url": image_url(112, 56)}},
        {"type": "video_url", "video_url": {"url": clip_url}, "nframes": 4},
    ]
    body = {"model": "demo", "max_tokens": 1, "messages": [{"role": "user", "content": parts}]}
    assert accepts("MediaMessage", body["messages"][0])
    plan = server.post(body, "/v1/vision/plan").json()
    assert accepts("VisionPlan", plan)
    assert not accepts("VisionPlan", {**plan, "media": [{"kind": "image"}]})
    answer = server.post({**body, "vision": {"report": True}}).json()
    assert accepts("VisionReport", answer["vision"])
    said = '{"bbox_2d": [1, 2, 3, 4], "label": "cat"} {"point_2d": [1, 2]}'
    asked = {"vision": {"coordinates": "source"}, "structured_outputs": {"choice": [said]}}
    body["messages"][0]["content"] = parts[:1]
    answer = server.post({**body, **asked, "max_tokens": 200}).json()
    assert len(answer["vision"]["detections"]) == 2
    assert accepts("VisionReport", answer["vision"])
    assert not accepts("VisionReport", {"detections": [{"choice": 0, "bbox_2d": [1, 2, 3]}]})
    assert accepts("Error", server.post({"messages": 5}).json())
