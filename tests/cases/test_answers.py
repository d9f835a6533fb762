"""Answers in the caller's coordinates, as models write them and as clients keep them."""

import itertools
import json
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from saccade.media.controls import VideoControls
from saccade.media.planning.plan import ImagePlan, VideoPlan, VisionGeometry, plan_frame_list
from saccade.server.core.errors import InvalidRequest
from saccade.server.core.settings import RequestLimits
from saccade.server.request.field_checks import EngineOptions
from saccade.server.request.parsed_request import CHAT, ParsedRequest, parse_request
from saccade.server.request.vision import SeenMedium, VisionOptions, VisionTokens
from saccade.server.response.edits import VisionUsageEdit, finish_events
from saccade.server.response.history import history_for_model
from saccade.server.response.source_coordinates import AnswerText, SourceCoordinatesEdit
from saccade.server.response.vision_report import VisionReportEdit

DOUBLED = ImagePlan(1120, 840, 560, 420, (1, 30, 40), 300)
BOX = '{"bbox_2d": [1, 2, 30, 40], "label": "cat"}'
IN_SOURCE = {"label": "cat", "bbox_2d": [2, 4, 60, 80], "image": 0}


def chunk(choices, **fields):
    common = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "demo"}
    return {**common, "choices": choices, **fields}


def delta(index, content=None, finish=None):
    told = {} if content is None else {"content": content}
    return {"index": index, "delta": told, "finish_reason": finish}


async def streamed(texts):
    """The chunks of a stream in which choices say these texts, the last choice ending first."""
    chunks = [
        chunk([{"index": index, "delta": {"role": "assistant", "content": ""}}])
        for index in range(len(texts))
    ]
    for index, text in reversed([*enumerate(texts)]):
        chunks += [chunk([delta(index, character)]) for character in text]
        chunks.append(chunk([delta(index, finish="stop")]))
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    chunks.append(chunk([], usage=usage))

    async def events():
        for each in chunks:
            yield f"data: {json.dumps(each, separators=(',', ':'))}\n\n"
        yield "data: [DONE]\n\n"

    seen = [SeenMedium("messages[0].content[0]", DOUBLED, False)]
    edits = [
        VisionUsageEdit(VisionTokens.of(seen)),
        VisionReportEdit(seen),
        SourceCoordinatesEdit(VisionOptions(report=True, coordinates="source"), [DOUBLED]),
    ]
    sent = [event async for event in finish_events(events(), edits)]
    assert sent.pop() == "data: [DONE]\n\n"
    return [json.loads(event.removeprefix("data: ")) for event in sent]


@pytest.mark.parametrize("choices", [1, 2])
async def test_streaming_with_report_and_source_coordinates(choices):
    chunks = await streamed([BOX] * choices)
    assert len([each for each in chunks if "media" in each.get("vision", {})]) == 1
    assert chunks[0]["vision"]["media"][0]["resized_size"] == [560, 420]
    # As openai-node's final completion: what stands last beside `choices` is kept.
    last = [each["vision"] for each in chunks if "vision" in each][-1]
    found = [{"choice": index, **IN_SOURCE} for index in range(choices)]
    assert last == {"detections": found, "warnings": []}
    # As openai-python's: of what stands beside `choices` the first is kept, and every delta.
    state = ChatCompletionStreamState()
    for each in chunks:
        state.handle_chunk(ChatCompletionChunk.model_validate(each))
    final = state.get_final_completion()
    assert [*final.vision] == ["media"]
    assert final.usage.prompt_tokens_details.image_tokens == DOUBLED.tokens
    for index, choice in enumerate(final.choices):
        assert choice.message.content == BOX.replace("[1, 2, 30, 40]", "[2, 4, 60, 80]")
        assert choice.message.vision == {"detections": [found[index]], "warnings": []}


def in_source(text, *plans, times=None):
    """What is sent of a text, what was found in it, and why numbers stayed."""
    options = VisionOptions(coordinates="source", times="model" if times is None else "source")
    seen = list(plans)
    if times is not None:
        seen = [VideoPlan(1120, 840, 560, 420, (1, 30, 40), 300, 25.0, 9, (0, 1), times, 2.0, 1.0)]
    edit = SourceCoordinatesEdit(options, seen or [DOUBLED])
    answer = {"choices": [{"index": 0, "message": {"content": text}}]}
    edit.edit(answer)
    return answer["choices"][0]["message"]["content"], answer["vision"]


# What a model writes, and the label it gives.
WRITTEN = {
    "boxes": ('{"bbox_2d": [%s, %s, %s, %s], "label": "cat"}', "cat"),
    "points": ('[{"point_2d": [%s, %s], "label": "cat"}]', "cat"),
    "points as XML": ('<points x1="%s" y1="%s" alt="cat">cat</points>', "cat"),
    "points as XML, in JSON": ('{"a": "<points x1=\\"%s\\" y1=\\"%s\\">"}', None),
    "points as XML, not numbered": ("<points x='%s' y = '%s'>cat</points>", None),
    "bbox": ('{"text_content": "cat", "bbox": [%s, %s, %s, %s]}', "cat"),
    "a box as text": ('{"bbox_2d": "%s, %s, %s, %s"}', None),
    "a box as a list in text": ('{"bbox_2d": "[%s, %s, %s, %s]"}', None),
    "a box as pairs in text": ('{"bbox": "(%s,%s),(%s,%s)"}', None),
    "a point as text": ('{"point_2d": "%s %s"}', None),
    "Python": ("[{'bbox_2d': [%s, %s, %s, %s], 'label': 'cat'}]", "cat"),
    "HTML": ('<p class="cat" data-bbox="%s %s %s %s">', "cat"),
    "special tokens": (
        "<|object_ref_start|>cat<|object_ref_end|><|box_start|>(%s,%s),(%s,%s)<|box_end|>",
        "cat",
    ),
    "special tokens, a point": ("<|point_start|>(%s,%s)<|point_end|>", None),
    "UI-TARS": ("Action: click(start_box='(%s,%s)')", None),
    "UI-TARS, end": ("scroll(direction='up', end_box=\"(%s, %s)\")", None),
    "UI-TARS, a box": ("click(start_box='[%s, %s, %s, %s]')", None),
    "UI-TARS, tokens": ("click(start_box='<|box_start|>(%s,%s)<|box_end|>')", None),
    "UI-TARS, a point": ("click(point='<point>%s %s</point>')", None),
    "UI-TARS, a box in tags": ("click(start_box='<bbox>%s %s %s %s</bbox>')", None),
    "computer use": ('{"action": "left_click", "coordinate": [%s, %s]}', None),
    "computer use, text": ('{"coordinate": "(%s, %s)"}', None),
    "computer use, a drag": ('{"start_coordinate": [%s, %s]}', None),
    "phone use": ('{"action": "swipe", "coordinate2": [%s, %s]}', None),
    "an action in JSON": ('{"do": "click(point=\'(%s,%s)\')"}', None),
}


@pytest.mark.parametrize("form", WRITTEN)
def test_forms_of_boxes_and_points_are_rewritten(form):
    text, label = WRITTEN[form]
    count = text.count("%s")
    sent, told = in_source(text % (10, 20, 30, 40)[:count])
    assert sent == text % (20, 40, 60, 80)[:count]
    (found,) = told["detections"]
    assert found["bbox_2d" if count == 4 else "point_2d"] == [20, 40, 60, 80][:count]
    assert found["label"] == label
    assert told["warnings"] == []


# What looks like a box or a point in a form that is nobody's that is known.
UNKNOWN = [
    "cat(10,20),(30,40)",
    "<box>(10,20),(30,40)</box>",
    "<ref>cat</ref><box>10 20 30 40</box>",
    "pyautogui.click(x=10, y=20)",
    "click(10, 20)",
    '{"x": 10, "y": 20}',
    '{"x1": 10, "y1": 20, "x2": 30, "y2": 40}',
    '{"xmin": 10, "ymin": 20}',
    '{"left": 10, "top": 20, "width": 5, "height": 5}',
    "left: 10px; top: 20px",
    "at x=10 and y=20",
    "cat: 10, 20, 30, 40",
    '{"box_2d": [10, 20, 30, 40]}',
    '{"bounding_box": "10 20 30 40"}',
    '{"cat": [10, 20, 30, 40]}',
    '{"polygon": [[10, 20], [30, 40]]}',
    '{"bbox_2d": [[10, 20, 30, 40]]}',
    '{"point_2d": {"x": 10, "y": 20}}',
    "bbox_2d: [10, 20, 30, 40]",
    "<points x1=10 y1=20>",
    "The box is 10, 20, 30, 40.",
    "10, 20, 30, 40",
    "cat:\n12.5 20 30 40\n",
    "<loc_10><loc_20>",
    '{"startX": 10, "startY": 20}',
    '{"bounds": "[10,20][30,40]"}',
    '{"segmentation": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]}',
    '{"keypoints": [[10, 20, 2]]}',
    "Click 10,20",
    '{"action": "drag", "start": [10, 20], "end": [30, 40]}',
    "\u5750\u6807\uff0810\uff0c20\uff09",
]


@pytest.mark.parametrize("text", UNKNOWN)
def test_other_forms_of_boxes_and_points_are_told(text):
    sent, told = in_source(text)
    assert sent == text
    assert told["detections"] == []
    assert any(re.search("boxes or points stayed", warning) for warning in told["warnings"])
    assert any(re.search("[0-9]", warning) for warning in told["warnings"])


PROSE = [
    "There are 3 cats, 2 dogs and 12 birds.",
    "It costs $1,234.50, that is 5% of 20 (see 2019).",
    "In 2019, 2020 and 2021: 1,234,567 of 16:9 at 30 fps.",
    "Version 1.2.3 is 0.5 better, 42.",
    '{"answer": 42, "cats": [1, 2, 3], "price": "3.50"}',
    "1. A cat\n2. A dog\n\n| 1 | 2 |\n|---|---|\n",
    "correct: 3, 5\n12\n13\n14\n15",
    '{"sentiment": 0.85, "vendor": 3, "gender": 1, "weekend": 2, "recommended": 5}',
    "Attendance: 40, calendar: 2024, centimeters: 12, momentum: 0.9",
]


@pytest.mark.parametrize("text", PROSE)
def test_other_numbers_stay_and_nothing_is_told(text):
    assert in_source(text) == (text, {"detections": [], "warnings": []})
    assert in_source(text, times=(12.5, 13.5)) == (text, {"detections": [], "warnings": []})


@pytest.mark.parametrize(
    ("text", "shifted"),
    [
        ("at 00:07", "at 00:20"),
        ('{"start": 3.5, "end": 7}', '{"start": 16.0, "end": 20}'),
        ('{"start": "3.5s", "end": "7s"}', '{"start": "16.0s", "end": "20s"}'),
        ('{"start_time": "01.00"}', '{"start_time": "13.50"}'),
        ('{"start": "0:03s"}', '{"start": "0:16s"}'),
        ('{"timestamps": [0.5, 1, 12.25]}', '{"timestamps": [13.0, 14, 24.75]}'),
        ('{"timestamps": ["00:01.0", "00:02.0"]}', '{"timestamps": ["00:13.5", "00:14.5"]}'),
        ("{'start': 1.0, 'end': '2.0'}", "{'start': 13.5, 'end': '14.5'}"),
        ('{"segment": [1.0, 2.0]}', '{"segment": [13.5, 14.5]}'),
    ],
)
def test_forms_of_times_are_shifted(text, shifted):
    sent, told = in_source(text, times=(12.5, 13.5))
    assert sent == shifted
    assert told["warnings"] == []


@pytest.mark.parametrize(
    "text",
    [
        "It leaves at 3.5s.",
        "from 3 to 7 seconds",
        "after 2 minutes",
        "1m30s",
        "第3秒",
        "start: 3, end: 7",
        '{"timestamps": ["1.0", "2.0"]}',
        '{"segments": [[1.0, 2.0], [3.0, 4.0]]}',
        '{"begin_at": 3}',
        "at second 5",
        "t=3.5",
        '{"time": "3.5s to 7s"}',
        '{"time": "between 3 and 7"}',
        "<timestamp>3.5</timestamp>",
        "<answer>12.5 to 20.3</answer>",
        '{"event": [12.5, 20.3]}',
        "3.5",
        "00:00:07:12",
        '{"onset": 3.5}',
        '{"from": 3, "to": 7}',
    ],
)
def test_other_forms_of_times_are_told(text):
    sent, told = in_source(text, times=(12.5, 13.5))
    assert sent == text
    (warning,) = [each for each in told["warnings"] if "times stayed" in each]
    assert re.search("[0-9]", warning)


@pytest.mark.parametrize(
    "text",
    [
        "[" + (" " * 32).join("123456789") + " x",
        "<points " + " ".join(f'x{at}="10" y{at}="20"' for at in range(2000)),
        "".join(f'<p data-bbox="{at} 2 3 4">' for at in range(2000)),
        "[" + ", ".join('{"bbox_2d": [1, 2, 3, 4], "start": "3.5s"}' for _ in range(2000)),
    ],
    ids=["spaces", "one tag", "tags", "boxes"],
)
def test_long_answers_take_time_that_grows_with_their_length(text):
    """Seconds of a processor, not of a clock: without the care that is taken, minutes or years."""
    begun = time.process_time()
    in_source(text, times=(12.5, 13.5))
    assert time.process_time() - begun < 5


def test_decimals_of_subtitles_are_told():
    sent, told = in_source("00:00:03,500 --> 00:00:04,250", times=(12.5, 13.5))
    assert "00:00:03" not in sent
    assert ",500, ,250" in told["warnings"][0]


# Frames of 1120 x 840, 2240 x 1680 and again 1120 x 840, shown at 560 x 420.
FRAMES = plan_frame_list(
    [(1120, 840), (2240, 1680), (1120, 840)],
    VideoControls(resized_width=560, resized_height=420),
    VisionGeometry(),
)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ('{"frame": 1, "point_2d": [10, 20]}', "[20, 40]"),
        ('{"frame": 2, "point_2d": [10, 20]}', "[40, 80]"),
        ('{"frame": "2", "point_2d": [10, 20]}', "[40, 80]"),
        ('{"frame_index": 1, "point_2d": [10, 20]}', "[40, 80]"),
        ('{"frame_2": [{"point_2d": [10, 20]}]}', "[40, 80]"),
        ('{"frame": "Frame 3", "boxes": [{"point_2d": [10, 20]}]}', "[20, 40]"),
        ('{"video": 1, "frame": 2, "point_2d": [10, 20]}', "[40, 80]"),
        ('{"frame": 2, "video": 1, "point_2d": [10, 20]}', "[40, 80]"),
        ('{"point_2d": [10, 20]}', None),
        ('{"time": 1.0, "point_2d": [10, 20]}', None),
        ('{"frame": 4, "point_2d": [10, 20]}', None),
        ('{"video": 1, "point_2d": [10, 20]}', None),
    ],
)
def test_a_list_of_frames_of_different_sizes(text, sent):
    for plans in ([FRAMES], [DOUBLED, FRAMES]):
        expected = text if sent is None else text.replace("[10, 20]", sent)
        rewritten, told = in_source(text, *plans)
        assert rewritten == expected
        if sent is None:
            assert told["detections"] == []
            assert "which of the frames" in told["warnings"][0]
        else:
            (found,) = told["detections"]
            assert (found["point_2d"], found["image"]) == (json.loads(sent), plans.index(FRAMES))
            assert told["warnings"] == []


def test_several_lists_of_frames_are_told_apart_by_their_videos():
    text = '[{"frame": 2, "point_2d": [1, 2]}, {"video": 2, "frame": 2, "point_2d": [1, 2]}]'
    rewritten, told = in_source(text, FRAMES, FRAMES)
    assert rewritten == text[:-8] + "[4, 8]}]"
    assert [found["image"] for found in told["detections"]] == [1]


def test_frames_of_one_size_need_no_name():
    frames = plan_frame_list([(1120, 840)] * 2, VideoControls(), VisionGeometry())
    assert in_source('{"frame": 9, "point_2d": [56, 56]}', frames)[1]["warnings"] == []


def asked(messages, media, **options):
    vision = VisionOptions(**options, history="source")
    seen = [SeenMedium(path, plan) for path, plan in media]
    request = ParsedRequest({"messages": messages, "model": "demo"}, "messages", (), vision)
    return history_for_model(request, seen).prompt


def test_earlier_answers_go_back_to_the_model_as_it_wrote_them():
    text, _ = in_source(BOX)
    assert text != BOX
    function = {"name": "click", "arguments": '{"coordinate": [20, 40]}'}
    messages = [
        {"role": "assistant", "content": text},  # before any image
        {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": text}]},
        {"role": "assistant", "content": text, "tool_calls": [{"id": "1", "function": function}]},
        {"role": "tool", "content": text},
        {"role": "assistant", "content": [{"type": "text", "text": text}, 7], "tool_calls": None},
        {"role": "user", "content": [{"type": "image_url"}]},
        {"role": "assistant", "content": text},  # of two scales: it was left as it was
        {"role": "assistant", "content": None},
        "text",
    ]
    media = [("messages[1].content[0]", DOUBLED), ("messages[5].content[0]", FRAMES)]
    before = json.dumps(messages)
    got = asked(messages, media, coordinates="source")
    assert json.dumps(messages) == before
    assert [got[at] for at in (0, 1, 3, 5, 6, 7, 8)] == [
        messages[at] for at in (0, 1, 3, 5, 6, 7, 8)
    ]
    assert got[2]["content"] == BOX
    assert got[2]["tool_calls"][0]["function"]["arguments"] == '{"coordinate": [10, 20]}'
    assert got[4]["content"] == [{"type": "text", "text": BOX}, 7]


def test_earlier_times_and_items_of_a_response_go_back():
    times = VideoPlan(840, 840, 560, 420, (1, 30, 40), 9, 25.0, 9, (0, 1), (12.5, 13.5), 2.0, 1.0)
    items = [
        {"type": "message", "role": "user", "content": []},
        {"type": "message", "role": "assistant", "content": [{"text": "00:20.0, 00:05"}]},
        {"type": "function_call", "arguments": '{"start": 13.5}'},
    ]
    got = asked(items, [("input[0].content[0]", times)], times="source")
    assert got[1]["content"][0]["text"] == "00:07.5, 00:00"
    assert got[2]["arguments"] == '{"start": 1.0}'


def test_history_alone_is_refused():
    body = {"messages": [], "vision": {"history": "source"}}
    with pytest.raises(InvalidRequest) as refused:
        parse_request(body, CHAT, RequestLimits(), EngineOptions())
    assert refused.value.param == "vision.history"


FRAGMENTS = [
    *("{", "}", "[", "]", "(", ")", '"', "'", "\\", ",", ", ", " ", "\n", ":", "=", "<", ">", "|"),
    *("1", "20", "3.5", "-4", "300", "00:07", "s", " seconds", "10, 20", "(10,20)", "[1, 2, 3, 4]"),
    *('"bbox_2d": ', '"bbox": "', "'bbox': [", "start_box='", "point=", "<point>", "<|box_start|>"),
    *(
        "<|box_end|>",
        "<points ",
        ' x1="',
        " y1='",
        'data-bbox="',
        '\\"coordinate\\": [',
        "</point>",
    ),
    *(
        '"start": ',
        '"timestamps": [',
        '"end": "',
        '"image": 2, ',
        '"frame": 1, ',
        '{"label": "cat", ',
    ),
]
SOUPS = st.lists(st.sampled_from(FRAGMENTS), max_size=40).map("".join)


@settings(deadline=None)
@given(SOUPS, st.data())
def test_a_stream_is_equal_however_it_is_cut(text, data):
    options = VisionOptions(coordinates="source", times="source")
    times = VideoPlan(840, 840, 560, 420, (1, 30, 40), 9, 25.0, 9, (0, 1), (12.5, 13.5), 2.0, 1.0)
    for plans in ([DOUBLED], [times], [DOUBLED, times], [FRAMES]):
        places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
        pieces = [text[start:end] for start, end in itertools.pairwise([0, *places, len(text)])]
        edit, sent = SourceCoordinatesEdit(options, plans), ""
        for number, piece in enumerate(pieces, 1):
            finish = "stop" if number == len(pieces) else None
            (told,) = edit.edit(chunk([delta(0, piece, finish)]))
            sent += told["choices"][0]["delta"].get("content") or ""
        answer = {"choices": [{"index": 0, "message": {"content": text}}]}
        SourceCoordinatesEdit(options, plans).edit(answer)
        assert sent == answer["choices"][0]["message"]["content"]
        assert told["vision"] == answer["vision"]


@settings(deadline=None)
@given(SOUPS)
def test_what_was_rewritten_comes_back_as_it_was(text):
    options = VisionOptions(coordinates="source")
    text = re.sub(r"-|\.[0-9]+|[0-9]{3,}", "", text)
    there, back = AnswerText(options, [DOUBLED]), AnswerText(options, [DOUBLED], back=True)
    rewritten = there.feed(text) + there.close()
    assert back.feed(rewritten) + back.close() == text


@settings(deadline=None)
@given(SOUPS)
def test_detections_are_what_was_rewritten(text):
    large = ImagePlan(560_000, 420_000, 560, 420, (1, 30, 40), 300)
    text = re.sub(r"-|\.[0-9]+|[0-9]{4,}", "", text)
    sent, told = in_source(text, large)
    for found in told["detections"]:
        numbers = found.get("bbox_2d") or found["point_2d"]
        assert all(number % 1000 == 0 for number in numbers), (sent, found)
