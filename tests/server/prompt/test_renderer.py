"""What is rendered at once, and that it is rendered as everything else is; without an engine."""

import asyncio

import pydantic_core
import pytest
from vllm.exceptions import VLLMValidationError
from vllm.multimodal.media import MEDIA_CONNECTOR_REGISTRY
from vllm.renderers.params import ChatParams
from vllm.renderers.registry import RENDERER_REGISTRY

from saccade.benchmarks.preprocessing.images import Case
from saccade.benchmarks.preprocessing.path_process import Renderer, make_renderer, through_saccade
from saccade.server.checkpoint.bundled import bundled_checkpoint
from saccade.server.engine.prompt import renderer as module
from saccade.server.engine.prompt.renderer import use_plain_text_renderer

SPELLED = "say <|im_end|> and <|im_start|>"


def chat(content: object, **fields: object) -> dict:
    return {"model": "demo", "messages": [{"role": "user", "content": content}], **fields}


def tokens_at_once(renderer: Renderer, body: dict) -> list[int] | None:
    """The prompt; None if it waits for anything."""
    work = renderer.render(body)
    try:
        work.send(None)
    except StopIteration as end:
        return end.value.prompt_token_ids
    work.close()
    return None


@pytest.fixture
async def renderer(monkeypatch):
    monkeypatch.setitem(RENDERER_REGISTRY.renderers, "hf", None)
    monkeypatch.setattr(
        MEDIA_CONNECTOR_REGISTRY, "name2class", dict(MEDIA_CONNECTOR_REGISTRY.name2class)
    )
    use_plain_text_renderer()
    tools = ("--enable-auto-tool-choice", "--tool-call-parser=hermes")
    return await make_renderer([str(bundled_checkpoint()), "--max-model-len=2048", *tools])


@pytest.fixture
def the_long_way(monkeypatch):
    """Lets everything be rendered as what takes long."""
    return lambda: monkeypatch.setattr(module, "_SHORT", -1)


async def test_little_text_is_rendered_without_a_turn_of_the_event_loop(renderer, the_long_way):
    tool = {"type": "function", "function": {"name": "look", "description": SPELLED}}
    call = {"name": "look", "arguments": '{"at": "<|im_end|>"}'}
    asked = {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": call}]}
    bodies = [chat(content) for content in ("hello", SPELLED, "a word " * 80, "")]
    bodies += [chat([{"type": "text", "text": SPELLED}]), chat("hello", tools=[tool])]
    bodies += [{"model": "demo", "messages": [asked, {"role": "user", "content": "why?"}]}]
    at_once = [tokens_at_once(renderer, body) for body in bodies]
    assert None not in at_once
    the_long_way()
    assert tokens_at_once(renderer, bodies[0]) is None
    assert at_once == [(await renderer.render(body)).prompt_token_ids for body in bodies]


async def test_media_are_rendered_alike_with_little_text_and_with_much(renderer, the_long_way):
    render = through_saccade(renderer, None)
    body = pydantic_core.from_json(Case("JPEG", 160, 120).body(seed=0, index=0))
    body["messages"][0]["content"] += [{"type": "text", "text": SPELLED}]

    async def seen() -> tuple[object, ...]:
        request = await render(pydantic_core.to_json(body))
        (feature,) = request.mm_features
        pixels = feature.data["pixel_values"].data
        return request.prompt_token_ids, feature.identifier, feature.mm_position, pixels.tolist()

    at_once = await seen()
    renderer.forget()
    the_long_way()
    assert at_once == await seen()


async def test_every_special_token_is_text_in_text(renderer):
    """The places of media among them."""
    inner = renderer._online.renderer
    tokenizer = inner.get_tokenizer()
    special = {i: t.content for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    assert {"<|im_end|>", "<|image_pad|>", "<|video_pad|>"} <= set(special.values())
    empty = [i for i in tokens_at_once(renderer, chat("")) if i in special]
    for spelling in special.values():
        (completion,) = await inner.render_cmpl_async([{"prompt": spelling}])
        assert not set(completion["prompt_token_ids"]) & set(special), spelling
        ids = tokens_at_once(renderer, chat(spelling))
        assert [i for i in ids if i in special] == empty, spelling
        assert spelling in tokenizer.decode([i for i in ids if i not in special])


async def test_prompts_of_tokens_hold_no_place_of_a_medium(renderer, monkeypatch):
    inner = renderer._online.renderer
    config = inner.config.model_config.hf_config
    assert set(inner._placeholders) == {config.image_token_id, config.video_token_id}
    monkeypatch.setattr(inner, "_placeholders", {65: "an image"})
    within, alone = ({"prompt_token_ids": ids} for ids in ([64, 65], [65]))
    for prompts in ([within], [{"prompt": "a"}, alone]):
        with pytest.raises(VLLMValidationError, match="65 stands for an image") as refused:
            await inner.render_cmpl_async(prompts)
        assert refused.value.parameter == "prompt"
    assert await inner.render_cmpl_async([{"prompt_token_ids": [64]}])


async def test_what_takes_long_leaves_the_event_loop(renderer):
    assert tokens_at_once(renderer, chat("a word " * 300)) is None
    tool = {"type": "function", "function": {"name": "look", "description": "a word " * 300}}
    assert tokens_at_once(renderer, chat("hello", tools=[tool])) is None
    assert len((await renderer.render(chat("a word " * 300))).prompt_token_ids) > 600


async def test_media_of_requests_at_once_do_not_mix(renderer, the_long_way):
    """Each has its own media under the same names, on threads too."""
    render = through_saccade(renderer, None)
    case = Case("JPEG", 160, 120)
    bodies = [case.body(seed=0, index=index) for index in range(6)]

    async def pixels(body: bytes) -> list:
        (feature,) = (await render(body)).mm_features
        return feature.data["pixel_values"].data.tolist()

    alone = [await pixels(body) for body in bodies]
    assert len({str(one) for one in alone}) == len(bodies)
    the_long_way()
    renderer.forget()
    assert await asyncio.gather(*map(pixels, bodies)) == alone


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": None, "uuid": "0"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/"}, "uuid": "0"},
        {"type": "video_url", "video_url": {"url": "file:///clip.mp4"}},
        {"type": "video_url", "video_url": {"url": "saccade-media:forged"}},
        {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "auto"},
    ],
)
async def test_media_that_did_not_come_through_our_routes_are_refused(renderer, part):
    """Whatever slipped past the routes: vLLM neither fetches nor decodes it."""
    messages = [{"role": "user", "content": [part]}]
    for length in (1, 300):
        text = {"role": "user", "content": "a word " * length}
        conversation = [[*messages, text]]
        with pytest.raises(VLLMValidationError, match="chat route") as refused:
            await renderer._online.renderer.render_chat_async(conversation, ChatParams())
        assert refused.value.parameter == "messages"
