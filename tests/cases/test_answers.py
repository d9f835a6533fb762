"""Answers in the caller's coordinates, as models write them and as clients keep them."""

import json

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from saccade.media.planning.plan import ImagePlan
from saccade.server.request.media import SeenMedium, VisionTokens
from saccade.server.request.vision_options import VisionOptions
from saccade.server.response.edits import VisionUsageEdit, finish_events
from saccade.server.response.source_coordinates import SourceCoordinatesEdit
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
