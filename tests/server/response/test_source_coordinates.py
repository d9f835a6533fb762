"""Answers in source pixels over HTTP: texts, tool calls, streams; and events of the Responses API.

What the model says is prescribed, so that it is known what has to come out.
"""

import json

import pytest
from vllm.entrypoints.openai.responses import streaming_events as vllm_events

from saccade.demo.checkpoints.checkpoint import random_checkpoint
from saccade.media.planning.plan import ImagePlan
from saccade.server.request.vision import VisionOptions
from saccade.server.response.source_coordinates import SourceCoordinatesEdit

SOURCE = {"coordinates": "source"}
WHITE = set("ĠĊĉč")  # space, line feed, tab and carriage return, as byte-level BPE writes them
CONTROLS = {"resized_width": 112, "resized_height": 56}
SAID = 'é🦊 {"image": 2, "bbox_2d": [10, 20, 30, 40.5], "label": "cat"} <p data-bbox="1 2 3 4">'


def say(text, picture_urls, **options):
    """A request whose answer is this text, about pictures shown at 112 x 56 pixels."""
    parts = [{"type": "image_url", "image_url": {"url": url}, **CONTROLS} for url in picture_urls]
    return {
        "model": "demo",
        "messages": [{"role": "user", "content": [*parts, {"type": "text", "text": "Where?"}]}],
        "max_tokens": 200,
        "structured_outputs": {"choice": [text]},
        **options,
    }


def streamed(server, body):
    """Each choice's text of a streamed answer, and the last `vision`."""
    with server.stream({**body, "stream": True}) as answer:
        assert answer.status_code == 200
        lines = [line for line in answer.iter_lines() if line.startswith("data: {")]
    texts, told = {}, None
    for chunk in (json.loads(line.removeprefix("data: ")) for line in lines):
        for choice in chunk["choices"]:
            index = choice["index"]
            texts[index] = texts.get(index, "") + (choice["delta"].get("content") or "")
            assert ("vision" in chunk) == (choice["finish_reason"] is not None)
            if "vision" in chunk:
                told = chunk["vision"]
                found = [each for each in told["detections"] if each["choice"] == index]
                assert choice["delta"]["vision"] == {**told, "detections": found}
    return texts, told


def test_boxes_and_what_was_found(server, image_url):
    expected = SAID.replace("10, 20, 30, 40.5", "20, 20, 60, 40.5").replace("1 2 3 4", "2 2 6 4")
    body = say(SAID, [image_url(224, 56)] * 2, vision=SOURCE, n=2)
    answer = server.post(body).json()
    assert [choice["message"]["content"] for choice in answer["choices"]] == [expected] * 2
    found = [
        [
            {"choice": choice, "label": "cat", "bbox_2d": [20, 20, 60, 40.5], "image": 1},
            {"choice": choice, "label": "p", "bbox_2d": [2, 2, 6, 4], "image": None},
        ]
        for choice in (0, 1)
    ]
    assert answer["vision"] == {"detections": found[0] + found[1], "warnings": []}
    assert streamed(server, body) == ({0: expected, 1: expected}, answer["vision"])


def test_what_cannot_be_decided_stays_and_is_told(server, image_url):
    body = say(SAID, [image_url(224, 112), image_url(56, 56)], vision=SOURCE)
    expected = SAID.replace("10, 20, 30, 40.5", "5, 20, 15, 40.5")
    answer = server.post(body).json()
    assert answer["choices"][0]["message"]["content"] == expected
    (found,) = answer["vision"]["detections"]
    assert (found["image"], found["bbox_2d"]) == (1, [5, 20, 15, 40.5])
    (warning,) = answer["vision"]["warnings"]
    assert "which image they belong to" in warning
    assert streamed(server, body) == ({0: expected}, answer["vision"])


def test_a_text_that_ends_within_a_list_comes_whole(server, image_url):
    said = 'ab {"bbox_2d": [10, 20, 30'
    body = say(said, [image_url(224, 56)], vision=SOURCE)
    texts, told = streamed(server, body)
    assert texts == {0: said}
    assert told["detections"] == []
    assert "not the numbers expected" in told["warnings"][0]


def test_plain_answers_stay_plain(server, image_url):
    for vision in ({}, {"coordinates": "model", "times": "model"}):
        answer = server.post(say(SAID, [image_url(224, 56)], vision=vision)).json()
        assert answer["choices"][0]["message"]["content"] == SAID
        assert "vision" not in answer


def white_space_tokens():
    tokenizer = json.loads((random_checkpoint() / "tokenizer.json").read_text())
    return [number for token, number in tokenizer["model"]["vocab"].items() if set(token) <= WHITE]


def test_tool_calls(server, image_url):
    action = {"action": {"const": "left_click"}, "coordinate": {"const": [10, 20]}}
    parameters = {"type": "object", "properties": action, "required": [*action]}
    parameters["additionalProperties"] = False
    tool = {"name": "computer_use", "strict": True, "parameters": parameters}
    body = say("", [image_url(224, 56)], vision=SOURCE)
    del body["structured_outputs"]
    # Random weights would put white space between the tokens of JSON for ever.
    body["logit_bias"] = dict.fromkeys(map(str, white_space_tokens()), -100)
    body["tools"] = [{"type": "function", "function": tool}]
    body["tool_choice"] = {"type": "function", "function": {"name": "computer_use"}}
    answer = server.post(body).json()
    (call,) = answer["choices"][0]["message"]["tool_calls"]
    arguments = call["function"]["arguments"]
    assert json.loads(arguments) == {"action": "left_click", "coordinate": [20, 20]}
    found = {"choice": 0, "label": None, "point_2d": [20, 20], "image": 0}
    assert answer["vision"] == {"detections": [found], "warnings": []}
    with server.stream({**body, "stream": True}) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: {")]
    deltas = [json.loads(line.removeprefix("data: "))["choices"][0]["delta"] for line in lines]
    pieces = [
        call["function"].get("arguments") or ""
        for delta in deltas
        for call in delta.get("tool_calls") or ()
    ]
    assert len(pieces) > 4
    assert json.loads("".join(pieces)) == json.loads(arguments)


@pytest.fixture
def edit():
    plan = ImagePlan(1120, 840, 560, 420, (1, 30, 40), 300)
    return SourceCoordinatesEdit(VisionOptions(coordinates="source"), [plan])


def numbered(events):
    """vLLM's events as the route sends them."""
    sent = []
    for number, event in enumerate(events):
        event.sequence_number = number
        sent.append(event.model_dump(mode="json"))
    return sent


def test_responses(client, image_url):
    picture = {"type": "input_image", "image_url": image_url(224, 56), **CONTROLS}
    box = {"bbox_2d": {"const": [10, 20, 30, 40]}, "label": {"const": "cat"}}
    schema = {"type": "object", "properties": box, "required": [*box]}
    schema["additionalProperties"] = False
    asked = {
        "model": "demo",
        "input": [{"role": "user", "content": [picture]}],
        "text": {"format": {"type": "json_schema", "name": "found", "schema": schema}},
        "max_output_tokens": 200,
        "extra_body": {"vision": SOURCE},
    }
    answer = client.responses.create(**asked)
    assert json.loads(answer.output_text) == {"bbox_2d": [20, 20, 60, 40], "label": "cat"}
    found = {"choice": 0, "label": "cat", "bbox_2d": [20, 20, 60, 40], "image": 0}
    assert answer.vision == {"detections": [found], "warnings": []}
    events = list(client.responses.create(**asked, stream=True))
    said = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert said == answer.output_text == events[-1].response.output_text
    assert events[-1].response.vision == answer.vision
    assert [event.sequence_number for event in events] == list(range(len(events)))


def response_events(pieces, arguments):
    state = vllm_events.StreamingState()
    events = []
    for piece in pieces:
        events += vllm_events.emit_text_delta_events(piece, state)
    events += vllm_events.emit_text_output_done_events("".join(pieces), state)
    state.reset_for_new_item()
    for piece in arguments:
        events += vllm_events.emit_function_call_delta_events(piece, "computer_use", state)
    events += vllm_events.emit_function_call_done_events("computer_use", "".join(arguments), state)
    return numbered(events)


def test_events_of_a_response(edit):
    pieces = ['[{"bbox_', '2d": [10, 20', ', 30, 40]}] {"point_2d": [1, 2', "0"]
    arguments = ['{"coordinate": [', "5, 6", "]}"]
    sent = [after for before in response_events(pieces, arguments) for after in edit.edit(before)]
    assert [event["sequence_number"] for event in sent] == list(range(len(sent)))
    text = '[{"bbox_2d": [20, 40, 60, 80]}] {"point_2d": [1, 20'
    clicked = '{"coordinate": [10, 12]}'
    said = "".join(e["delta"] for e in sent if e["type"] == "response.output_text.delta")
    called = "".join(
        e["delta"] for e in sent if e["type"] == "response.function_call_arguments.delta"
    )
    assert (said, called) == (text, clicked)
    by_type = {event["type"]: event for event in sent}
    assert by_type["response.output_text.done"]["text"] == text
    assert by_type["response.content_part.done"]["part"]["text"] == text
    assert by_type["response.function_call_arguments.done"]["arguments"] == clicked
    items = [event["item"] for event in sent if event["type"] == "response.output_item.done"]
    assert items[0]["content"][0]["text"] == text
    assert items[1]["arguments"] == clicked
    whole = {"output": response_items("".join(pieces), "".join(arguments))}
    (completed,) = edit.edit({"type": "response.completed", "response": whole})
    assert completed["response"]["output"] == response_items(text, clicked)
    told = completed["response"]["vision"]
    assert [one.get("point_2d", one.get("bbox_2d")) for one in told["detections"]] == [
        [20, 40, 60, 80],
        [10, 12],
    ]
    assert len(told["warnings"]) == 1


def response_items(text, arguments):
    return [
        {
            "type": "reasoning",
            "content": [{"type": "reasoning_text", "text": '"point_2d": [1, 2]'}],
        },
        {"type": "message", "content": [{"type": "output_text", "text": text}]},
        {"type": "function_call", "arguments": arguments},
    ]
