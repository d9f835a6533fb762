"""What is rendered at once, and that it is rendered as everything else is; without an engine."""

import pytest
from vllm.renderers.registry import RENDERER_REGISTRY

from saccade.benchmarks.host_path_process import Renderer, make_renderer
from saccade.demo.checkpoint import bundled_checkpoint
from saccade.server.renderer import use_plain_text_renderer

SPELLED = "say <|im_end|> and <|image_pad|>"


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
    use_plain_text_renderer()
    tools = ("--enable-auto-tool-choice", "--tool-call-parser=hermes")
    return await make_renderer([str(bundled_checkpoint()), "--max-model-len=2048", *tools])


async def test_little_text_is_rendered_without_a_turn_of_the_event_loop(renderer):
    tool = {"type": "function", "function": {"name": "look", "description": SPELLED}}
    bodies = [(content, {}) for content in ("hello", SPELLED, "a word " * 80, "")]
    for content, fields in [*bodies, ("hello", {"tools": [tool]})]:
        at_once = tokens_at_once(renderer, chat(content, **fields))
        in_turns = await renderer.render(chat([{"type": "text", "text": content}], **fields))
        assert at_once == in_turns.prompt_token_ids


async def test_what_takes_long_leaves_the_event_loop(renderer):
    assert tokens_at_once(renderer, chat("a word " * 300)) is None
    tool = {"type": "function", "function": {"name": "look", "description": "a word " * 300}}
    assert tokens_at_once(renderer, chat("hello", tools=[tool])) is None
    assert len((await renderer.render(chat("a word " * 300))).prompt_token_ids) > 600
