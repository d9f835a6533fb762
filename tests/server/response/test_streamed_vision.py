"""Report and source coordinates in streams, as the official client keeps them."""

import copy

import pytest

VISION = {"report": True, "coordinates": "source"}
BOX = '{"bbox_2d": [10, 20, 30, 40], "label": "cat"}'

UI_TARS = "Action: click(start_box='(10,20)') or click(10, 20)"


@pytest.fixture(scope="session")
def picture(image_url):
    url = image_url(224, 56)
    return {
        "type": "image_url",
        "image_url": {"url": url},
        "resized_width": 112,
        "resized_height": 56,
    }


def asked(picture, said, **vision):
    return {
        "model": "demo",
        "messages": [{"role": "user", "content": [picture, {"type": "text", "text": "Where?"}]}],
        "max_tokens": 100,
        "extra_body": {"structured_outputs": {"choice": [said]}, "vision": {**VISION, **vision}},
    }


@pytest.mark.parametrize("said", [BOX, UI_TARS])
def test_a_final_completion_keeps_what_was_told(client, picture, said):
    whole = client.chat.completions.create(**asked(picture, said))
    options = {"stream_options": {"include_usage": True}}
    with client.chat.completions.stream(**asked(picture, said), **options) as stream:
        chunks = [event.chunk for event in stream if event.type == "chunk"]
        final = stream.get_final_completion()
    assert final.choices[0].message.content == whole.choices[0].message.content
    told = [chunk.vision for chunk in chunks if hasattr(chunk, "vision")]
    # In the first chunk the media, in the last that has any the rest, and nothing between.
    assert told == [
        {"media": whole.vision["media"]},
        {name: whole.vision[name] for name in ("detections", "warnings")},
    ]
    assert final.vision == told[0]
    assert final.choices[0].message.vision == told[1]
    assert final.usage.prompt_tokens_details.image_tokens == whole.vision["media"][0]["tokens"]


def test_other_forms_are_rewritten_or_told(client, picture):
    answer = client.chat.completions.create(**asked(picture, UI_TARS))
    assert answer.choices[0].message.content == UI_TARS.replace("(10,20)", "(20,20)")
    assert answer.vision["detections"][0]["point_2d"] == [20, 20]
    (warning,) = answer.vision["warnings"]
    assert "(10, 20)" in warning


def test_earlier_answers_go_back_on_request(server, picture):
    def tokens(said, **vision):
        body = asked(picture, BOX, **vision)
        body |= body.pop("extra_body")
        body["messages"] += [
            {"role": "assistant", "content": said},
            {"role": "user", "content": "And the dog?"},
        ]
        return server.post(copy.deepcopy(body), "/v1/vision/plan").json()["prompt_tokens"]

    # Three digits are more tokens than two.
    theirs, ours = '{"point_2d": [60, 20]}', '{"point_2d": [120, 20]}'
    assert tokens(ours) > tokens(theirs) == tokens(ours, history="source")


def test_events_of_a_response_tell_once(client, picture):
    schema = {"type": "object", "properties": {"bbox_2d": {"const": [10, 20, 30, 40]}}}
    schema |= {"required": ["bbox_2d"], "additionalProperties": False}
    events = list(
        client.responses.create(
            model="demo",
            input=[{"role": "user", "content": [{**picture, "type": "input_image"}]}],
            text={"format": {"type": "json_schema", "name": "found", "schema": schema}},
            max_output_tokens=100,
            stream=True,
            extra_body={"vision": VISION},
        )
    )
    first, *between, last = events
    assert [*first.response.vision] == ["media"]
    assert last.response.vision["media"] == first.response.vision["media"]
    assert last.response.vision["detections"][0]["bbox_2d"] == [20, 20, 60, 40]
    for event in between:
        assert not hasattr(event, "vision")
        assert not hasattr(getattr(event, "response", None), "vision")
