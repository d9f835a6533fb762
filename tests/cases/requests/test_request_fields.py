"""Fields of requests: honoured, a known hint, or refused by their path."""

import json

import pytest
from people_send import (
    GREEN,
    SCHEMA,
    SEEN,
    SHAPES,
    SHAPES_URL,
    asked,
    image,
    json_schema,
    planned,
    video,
)


@pytest.mark.parametrize(
    ("fields", "texts"),
    [
        ({"guided_choice": ["red", "blue"]}, ("red", "blue")),
        ({"guided_regex": "(red|blue)"}, ("red", "blue")),
        ({"regex": "(red|blue)"}, ("red", "blue")),
        ({"guided_grammar": 'root ::= "red" | "blue"'}, ("red", "blue")),
        ({"grammar": 'root ::= "red" | "blue"'}, ("red", "blue")),
        ({"guided_json": {"const": "blue"}}, ('"blue"',)),
        ({"guided_json": '{"const": "blue"}'}, ('"blue"',)),
        ({"json_schema": {"const": "blue"}}, ('"blue"',)),
        ({"format": {"const": "blue"}}, ('"blue"',)),
        ({"format": ""}, (GREEN,)),
    ],
    ids=str,
)
def test_constraints_by_other_names_hold(answered, fields, texts):
    assert answered(asked(image(), **fields)) in texts


def test_ollamas_format_json(answered):
    text = answered(asked(image(), format="json", max_tokens=64))
    assert text.startswith("{")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"guided_json": SCHEMA, "guided_regex": "a"}, "guided_regex"),
        ({"guided_json": SCHEMA, "structured_outputs": {"json": SCHEMA}}, "guided_json"),
        ({"guided_json": SCHEMA, "response_format": json_schema()}, "guided_json"),
        ({"guided_choice": "red"}, "guided_choice"),
        ({"guided_regex": ["a"]}, "guided_regex"),
        ({"guided_regex": "("}, "guided_regex"),
        ({"guided_regex": "a" * 70_000}, "guided_regex"),
        ({"guided_whitespace_pattern": " "}, "guided_whitespace_pattern"),
        ({"guided_decoding_backend": "outlines"}, "guided_decoding_backend"),
        ({"format": "yaml"}, "format"),
        ({"functions": "look"}, "functions"),
        ({"functions": [{"parameters": {}}]}, "functions[0].name"),
        ({"functions": [SEEN["function"]], "tools": [SEEN]}, "functions"),
        ({"function_call": {"name": "seen"}}, "function_call"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"enable_search": True}, "enable_search"),
        ({"structured_outputs": {"json": SCHEMA, "whitespace_pattern": "x"}},
         "structured_outputs.whitespace_pattern"),
        ({"structured_outputs": {"json": SCHEMA, "disable_any_whitespace": False}},
         "structured_outputs.disable_any_whitespace"),
        ({"structured_outputs": {"jsn": SCHEMA}}, "structured_outputs.jsn"),
        ({"visoin": {"report": True}}, "visoin"),
        ({"max_token": 5}, "max_token"),
        ({"respose_format": {"type": "json_object"}}, "respose_format"),
        ({"max_completion_tokens": -1, "max_tokens": None}, "max_completion_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_output_tokens": 5}, "max_output_tokens"),
        ({"input": "a"}, "input"),
        ({"images": [SHAPES]}, "images"),
        ({"image": SHAPES}, "image"),
        ({"multi_modal_data": {"image": SHAPES}}, "multi_modal_data"),
        ({"video_start": 1.0}, "video_start"),
        ({"max_pixels": "many"}, "max_pixels"),
        ({"fps": -1}, "fps"),
        ({"fps": 1, "nframes": 4}, "fps"),
        ({"vl_high_resolution_images": "yes"}, "vl_high_resolution_images"),
        ({"mm_processor_kwargs": {"do_resize": False}}, "mm_processor_kwargs.do_resize"),
        ({"extra_body": {"top_k": 1}}, "extra_body"),
        ({"documents": [{"text": "a"}]}, "documents"),
        ({"options": {"temperature": 0}}, "options"),
    ],
    ids=str,
)  # fmt: skip
def test_fields_that_are_believed_in_are_refused_by_name(refused, fields, param):
    body = asked(image(), **fields)
    assert refused(body)[0] == param
    if not param.startswith(("guided_regex", "guided_choice")):  # which the engine compiles
        assert refused(body, "/v1/vision/plan")[0] == param


def test_an_unknown_field_is_told(server):
    body = asked(image(), num_ctx=4096, mirostat=2, max_tokens=1)
    told = ["num_ctx is an unknown field", "mirostat is an unknown field"]
    answer = server.post(body).json()
    assert [any(one in text for text in answer["vision"]["warnings"]) for one in told] == [True] * 2
    with server.stream({**body, "stream": True}) as streamed:
        first = next(line for line in streamed.iter_lines() if line.startswith("data: {"))
    assert (
        json.loads(first.removeprefix("data: "))["vision"]["warnings"]
        == (answer["vision"]["warnings"])
    )
    assert server.post(body, "/v1/vision/plan").json()["warnings"] == answer["vision"]["warnings"]
    for path, other in (
        ("/v1/responses", {"input": "a", "max_output_tokens": 1}),
        ("/v1/completions", {"prompt": "a", "max_tokens": 1}),
        ("/tokenize", {"prompt": "a"}),
        ("/detokenize", {"tokens": [1]}),
    ):
        answer = server.post({"model": "demo", "num_ctx": 5, **other}, path)
        assert answer.status_code == 200, answer.text
        assert "num_ctx" in answer.json()["vision"]["warnings"][0]
    assert "num_ctx is an unknown field" in server.log.read_text()


def test_hints_are_no_unknown_fields(server):
    hints = {"user": "a", "metadata": {"a": "b"}, "store": True, "service_tier": "auto"}
    hints |= {"prompt_cache_key": "a", "prediction": None, "reasoning_effort": "low"}
    answer = server.post(asked(image(), **hints, max_tokens=1))
    assert answer.status_code == 200, answer.text
    assert "vision" not in answer.json()


def test_controls_of_the_whole_request_count_for_media_that_say_nothing(server):
    small = {"type": "image_url", "image_url": {"url": SHAPES_URL}}
    sized = {**small, "resized_width": 112, "resized_height": 112}
    own = {**small, "max_pixels": 112 * 112}
    for fields in (
        {"max_pixels": 56 * 56},
        {"mm_processor_kwargs": {"max_pixels": 56 * 56}},
    ):
        seen = planned(server, asked(small, sized, own, **fields))
        areas = [one["resized_size"][0] * one["resized_size"][1] for one in seen]
        assert areas[0] <= 56 * 56 < areas[2] <= 112 * 112
        assert seen[1]["resized_size"] == [112, 112]
    for fields in ({"fps": 1}, {"mm_processor_kwargs": {"fps": [1.0]}}):
        first, second, frames = planned(
            server,
            asked(
                video(), video(nframes=6), {"type": "video", "video": [SHAPES_URL] * 4}, **fields
            ),
        )
        assert first["sampled_fps"] == pytest.approx(1, rel=0.1)
        assert (len(second["frame_times"]), len(frames["frame_times"])) == (6, 4)
    body = {"messages": asked(small)["messages"], "max_pixels": 56 * 56}
    few = server.post(body, "/tokenize").json()["count"]
    del body["max_pixels"]
    assert few < server.post(body, "/tokenize").json()["count"]


def test_a_control_of_the_whole_request_reaches_responses(server):
    part = {"type": "input_image", "image_url": SHAPES_URL}
    body = {"model": "demo", "input": [{"role": "user", "content": [part]}], "max_pixels": 56 * 56}
    body |= {"max_output_tokens": 1, "vision": {"report": True}}
    answer = server.post(body, "/v1/responses").json()
    assert answer["vision"]["media"][0]["tokens"] <= 4


def test_vl_high_resolution_images_and_original_make_nothing_smaller(server):
    plain = planned(server, asked(image()))[0]["resized_size"]
    for body in (
        asked(image(), vl_high_resolution_images=True),
        asked(image(), vl_high_resolution_images=False),
        asked(image(detail="original")),
    ):
        assert planned(server, body)[0]["resized_size"] == plain


@pytest.mark.parametrize("name", ["max_pixels", "fps", "vl_high_resolution_images", "detail"])
def test_controls_beside_a_message_or_a_text_are_refused(refused, name):
    body = asked(image())
    body["messages"][0][name] = 5
    assert refused(body)[0] == f"messages[0].{name}"
    body = asked(image())
    body["messages"][0]["content"][1][name] = 5
    assert refused(body)[0] == f"messages[0].content[1].{name}"


@pytest.mark.parametrize(
    "part",
    [
        image(beside={"cache_control": {"type": "ephemeral"}}),
        image(cache_control={"type": "ephemeral"}),
        image(format="image/jpeg"),
        image(beside={"format": "image/jpeg"}),
        image(detail="original"),
        image(beside={"id": "a", "index": 0}),
        {"type": "image", "image": SHAPES_URL, "cache_control": {"type": "ephemeral"}},
        {"type": "image", "source": {"type": "url", "url": SHAPES_URL}},
    ],
    ids=lambda part: ",".join(part),
)
def test_hints_beside_an_image(answered, part):
    assert answered(asked(part)) == GREEN


def test_hints_beside_a_video_and_a_text(server):
    hint = {"cache_control": {"type": "ephemeral"}}
    body = asked(video(**hint))
    body["messages"][0]["content"][1] |= hint
    answer = server.post(body, "/v1/vision/plan")
    assert (answer.status_code, answer.json()["warnings"]) == (200, [])
