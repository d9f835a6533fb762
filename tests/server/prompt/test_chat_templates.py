"""Which template renders what, and that prompts are the checkpoint's own; without an engine."""

import json
import shutil

import pytest
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from published import MEDIA_TEMPLATE, TOOLS_TEMPLATE, published_checkpoint, saved_again
from vllm.renderers.registry import RENDERER_REGISTRY

from saccade.benchmarks.preprocessing.path_process import make_renderer
from saccade.server.checkpoint.bundled import bundled_checkpoint
from saccade.server.engine.prompt import renderer as renderer_module
from saccade.server.engine.prompt.chat_templates import FEATURES, TEMPLATE
from saccade.server.engine.prompt.checkpoint_templates import TemplateReader, read_model_templates
from saccade.server.engine.prompt.conversation_shape import Shape
from saccade.server.engine.prompt.renderer import use_plain_text_renderer

PLACEHOLDERS = {"image": "<|image_pad|>", "video": "<|video_pad|>"}
PLAIN = Shape(frozenset({("user", "text"), ("system", "text"), ("assistant", "text")}))
TOKENIZER = transformers.AutoTokenizer.from_pretrained(bundled_checkpoint())
WHOLE = TEMPLATE.read_text()
TOOL = {
    "type": "function",
    "function": {"name": "look", "description": "Größe", "parameters": {"type": "object"}},
}

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<"), max_size=20)
plain_turns = st.lists(
    st.builds(
        lambda role, text: {"role": role, "content": text},
        st.sampled_from(["system", "user", "assistant"]),
        texts,
    ),
    min_size=1,
    max_size=6,
)
parts = st.lists(
    st.one_of(
        texts.map(lambda text: {"type": "text", "text": text}),
        st.sampled_from([{"type": "image"}, {"type": "video"}]),
    ),
    max_size=5,
)
media_turns = st.lists(
    st.builds(
        lambda role, content: {"role": role, "content": content},
        st.sampled_from(["system", "user", "assistant"]),
        st.one_of(texts, parts),
    ),
    min_size=1,
    max_size=6,
)
calls = st.lists(
    st.builds(
        lambda text, nested: {
            "type": "function",
            "function": {"name": "look", "arguments": {"at": text, "n": nested}},
        },
        texts,
        st.sampled_from([1, None, [1.5], {"a": True}]),
    ),
    min_size=1,
    max_size=2,
)
tool_turns = st.lists(
    st.one_of(
        plain_turns.map(lambda turns: turns[0]),
        st.builds(
            lambda text, made: {"role": "assistant", "content": text, "tool_calls": made},
            texts,
            calls,
        ),
        texts.map(lambda text: {"role": "tool", "content": text}),
    ),
    min_size=1,
    max_size=8,
)


def render(template: str, conversation, **options) -> str:
    return TOKENIZER.apply_chat_template(
        conversation, chat_template=template, tokenize=False, **options
    )


@settings(deadline=None)  # the first compiles the template
@given(media_turns, st.booleans(), st.booleans())
def test_the_whole_template_writes_media_as_published_checkpoints_do(turns, ids, prompt):
    options = {"add_vision_id": ids, "add_generation_prompt": prompt}
    assert render(WHOLE, turns, **options) == render(MEDIA_TEMPLATE, turns, **options)


@settings(deadline=None)
@given(tool_turns, st.sampled_from([None, [TOOL], [TOOL, TOOL]]), st.booleans())
def test_the_whole_template_writes_tools_as_published_checkpoints_do(turns, tools, prompt):
    options = {"tools": tools, "add_generation_prompt": prompt}
    assert render(WHOLE, turns, **options) == render(TOOLS_TEMPLATE, turns, **options)


def chosen(folder, shape: Shape) -> str:
    return read_model_templates(str(folder)).choose(shape).source


@pytest.mark.parametrize(
    ("make", "media"),
    [(published_checkpoint, "chat_template.json"), (saved_again, "chat_template.jinja")],
)
def test_the_checkpoints_own_templates_render_what_they_can(tmp_path, make, media):
    templates = read_model_templates(str(make(tmp_path)))
    tools = "tokenizer_config.json"
    assert {name: templates.choose(shape).source for name, shape in FEATURES.items()} == {
        "images": media,
        "videos": media,
        "numbered media (add_vision_id)": media,
        "media in system messages": media,
        "media in assistant messages": media,
        "tools": tools,
        "tool calls and their results": tools,
        "tools beside media": "Saccade's",
        "tools beside media in system messages": "Saccade's",
        "media in tool results": "Saccade's",
    }
    assert templates.choose(PLAIN).source == media
    assert templates.report() == (
        f"{media} and {tools}, and Saccade's for tools beside media, "
        "tools beside media in system messages, media in tool results"
    )


def checkpoint_with(folder, tokenizer=None, **files):
    """The tokenizer and templates of a checkpoint; `tokenizer` is in tokenizer_config.json."""
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copy(bundled_checkpoint() / name, folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": tokenizer}))
    for name, text in files.items():
        file = folder / name.replace("__", "/").replace("_jinja", ".jinja")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return folder


def test_without_any_template_the_whole_one_renders_all(tmp_path):
    templates = read_model_templates(str(checkpoint_with(tmp_path / "none")))
    assert {templates.choose(shape).source for shape in (PLAIN, *FEATURES.values())} == {
        "Saccade's"
    }
    assert templates.report() == "the checkpoint has no chat template; Saccade's is used"


def test_a_whole_template_of_the_checkpoint_renders_all(tmp_path):
    templates = read_model_templates(str(checkpoint_with(tmp_path / "whole", tokenizer=WHOLE)))
    assert templates.report() == "tokenizer_config.json: complete"
    assert {templates.choose(shape).source for shape in (PLAIN, *FEATURES.values())} == {
        "tokenizer_config.json"
    }


def test_named_templates(tmp_path):
    named = [
        {"name": "default", "template": MEDIA_TEMPLATE},
        {"name": "tool_use", "template": TOOLS_TEMPLATE},
        {"name": "rag", "template": "{{ 1 }}"},
    ]
    extra = {"additional_chat_templates__tool_use_jinja": TOOLS_TEMPLATE}
    for folder, source in (
        (checkpoint_with(tmp_path / "list", tokenizer=named), "tokenizer_config.json"),
        (
            checkpoint_with(tmp_path / "files", chat_template_jinja=MEDIA_TEMPLATE, **extra),
            "additional_chat_templates/tool_use.jinja",
        ),
    ):
        templates = read_model_templates(str(folder))
        assert templates.choose(FEATURES["tools"]).text == TOOLS_TEMPLATE
        assert templates.choose(FEATURES["tools"]).source == source
        assert templates.choose(FEATURES["images"]).text == MEDIA_TEMPLATE
        assert templates.choose(PLAIN).text == MEDIA_TEMPLATE
        assert templates.choose(FEATURES["tools beside media"]).text == WHOLE


def test_a_template_that_prints_parts_has_no_media(tmp_path):
    printing = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    )
    templates = read_model_templates(str(checkpoint_with(tmp_path / "p", tokenizer=printing)))
    own = templates.choose(PLAIN)
    assert own.text == printing
    several = [{"role": "user", "content": [{"type": "text", "text": text} for text in "ab"]}]
    assert own.adapted(several) == [{"role": "user", "content": "a\nb"}]
    assert "images" in templates.lacking()


# Templates that write media as published ones do, but not all else.
MEDIA_SHAPES = {name: FEATURES[name] for name in ("images", "videos")}
INSTRUCTED = Shape(
    frozenset({("system", "text"), ("user", "text"), ("user", "image"), ("assistant", "text")})
)
LOOP = (
    "{% for m in messages %}BEFORE<|im_start|>{{ m.role }}\n{% if m.content is string %}"
    "{{ m.content FILTER }}{% else %}FIRST{% for p in m.content %}{% if p.type == 'text' %}"
    "{{ p.text FILTER }}REST{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}PROMPT"
)
MEDIUM = "<|vision_start|><|{{ p.type }}_pad|><|vision_end|>"
IN_PLACE = "{% else %}" + MEDIUM
MEDIA_FIRST = (
    "{% for p in m.content %}{% if p.type != 'text' %}" + MEDIUM + "{% endif %}{% endfor %}"
)
PROMPT = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def looping(before="", mapped="", first="", rest=IN_PLACE, prompt=PROMPT) -> str:
    parts = {"BEFORE": before, "FILTER": mapped, "FIRST": first, "REST": rest, "PROMPT": prompt}
    template = LOOP
    for name, part in parts.items():
        template = template.replace(name, part)
    return template


@pytest.mark.parametrize(
    "template",
    [
        looping(),
        looping(prompt="<|im_start|>assistant\n"),  # whether it is asked for or not
        looping(first=MEDIA_FIRST, rest=""),
        looping(mapped="| upper"),
        "{% set messages = messages | rejectattr('role', 'eq', 'system') | list %}" + looping(),
    ],
    ids=["as usual", "always a prompt", "media before text", "capitals", "no system"],
)
def test_a_template_that_writes_all_media_renders_them(tmp_path, template):
    templates = read_model_templates(str(checkpoint_with(tmp_path / "m", tokenizer=template)))
    for shape in (*MEDIA_SHAPES.values(), INSTRUCTED, PLAIN):
        assert templates.choose(shape).text == template
    # Nothing of tools is in it.
    assert templates.choose(FEATURES["tools beside media"]).text == WHOLE


@pytest.mark.parametrize(
    "template",
    [
        looping(rest="{% elif m.role == 'user' %}" + MEDIUM),
        "{% set messages = messages | rejectattr('role', 'eq', 'system') | list %}" + looping(),
        looping(before="{% if loop.first and m.role == 'system' %}<|image_pad|>{% endif %}"),
    ],
    ids=["users' alone", "no system", "one too many"],
)
def test_a_template_that_writes_other_media_does_not_render_them(tmp_path, template):
    templates = read_model_templates(str(checkpoint_with(tmp_path / "m", tokenizer=template)))
    assert templates.choose(FEATURES["images"]).text == template
    assert templates.choose(FEATURES["media in system messages"]).text == WHOLE


def test_the_order_of_tool_calls_and_their_results_counts(tmp_path):
    backwards = TOOLS_TEMPLATE.replace("for turn in messages", "for turn in messages | reverse")
    assert backwards != TOOLS_TEMPLATE
    for template, expected in ((TOOLS_TEMPLATE, TOOLS_TEMPLATE), (backwards, WHOLE)):
        folder = checkpoint_with(tmp_path / str(len(template)), tokenizer=template)
        chosen = read_model_templates(str(folder)).choose
        assert chosen(FEATURES["tool calls and their results"]).text == expected


def test_a_template_that_takes_parts_only_gets_parts(tmp_path):
    parts_only = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for p in m.content %}"
        "{% if p.type == 'text' %}{{ p.text }}{% elif p.type == 'image' %}<|image_pad|>{% endif %}"
        "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
    )
    templates = read_model_templates(str(checkpoint_with(tmp_path / "p", tokenizer=parts_only)))
    own = templates.choose(PLAIN)
    assert own.text == parts_only
    hello = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
    assert own.adapted([{"role": "user", "content": "Hello"}]) == hello == own.adapted(hello)
    assert templates.choose(FEATURES["images"]).text == parts_only
    assert templates.choose(FEATURES["videos"]).text == WHOLE
    # No system turn is added where the checkpoint's own adds none.
    assert templates.choose(FEATURES["videos"]).options == {"default_system_prompt": None}


@pytest.mark.parametrize("system", ["You are Bob.", "Du bist\nhöflich."])
def test_the_whole_template_keeps_the_checkpoints_system_prompt(tmp_path, system):
    def mine(template: str) -> str:
        return template.replace("You are a helpful assistant.", system.replace("\n", "\\n"))

    folder = checkpoint_with(
        tmp_path / "c", mine(TOOLS_TEMPLATE), chat_template_jinja=mine(MEDIA_TEMPLATE)
    )
    template = read_model_templates(str(folder)).choose(FEATURES["tools beside media"])
    assert template.text == WHOLE
    turns = [{"role": "user", "content": [{"type": "image"}]}]
    prompt = render(WHOLE, turns, tools=[TOOL], **template.options)
    assert prompt.startswith(f"<|im_start|>system\n{system}\n\n# Tools\n\n")
    assert render(WHOLE, turns, **template.options).startswith(
        f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n"
    )


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    folder = checkpoint_with(tmp_path / "c", chat_template_jinja=MEDIA_TEMPLATE)
    (folder / "chat_template.json").write_text("[]")
    with pytest.raises(ValueError, match=r"chat_template\.json is not a JSON object"):
        read_model_templates(str(folder))


def test_a_given_template_is_the_only_one(monkeypatch):
    templates = TemplateReader(TOKENIZER, PLACEHOLDERS).given(TOOLS_TEMPLATE)
    with monkeypatch.context() as patch:
        patch.setattr(templates.own[0], "can_render", None)  # requests do not wait for trials
        assert templates.choose(FEATURES["images"]) is templates.own[0]
    assert {templates.choose(shape).text for shape in (PLAIN, *FEATURES.values())} == {
        TOOLS_TEMPLATE
    }
    assert templates.report().startswith("--chat-template: lacks images, videos, ")


def test_parts_of_text_are_joined_as_by_the_checkpoint(tmp_path):
    several = [{"role": "user", "content": [{"type": "text", "text": t} for t in ("a", "", "b")]}]

    def prompt(shape: Shape, **files) -> str:
        folder = checkpoint_with(tmp_path / str(len(files)), tokenizer=TOOLS_TEMPLATE, **files)
        template = read_model_templates(str(folder)).choose(shape)
        assert template.text in (TOOLS_TEMPLATE, MEDIA_TEMPLATE)
        return render(template.text, template.adapted(several))

    # As vLLM does it for templates of text alone.
    assert "<|im_start|>user\na\nb<|im_end|>" in prompt(PLAIN)
    shutil.rmtree(tmp_path / "0")
    assert "<|im_start|>user\na\nb<|im_end|>" in prompt(FEATURES["tools"])
    media = {"chat_template_jinja": MEDIA_TEMPLATE}
    assert "<|im_start|>user\nab<|im_end|>" in prompt(PLAIN, **media)
    shutil.rmtree(tmp_path / "1")
    assert "<|im_start|>user\nab<|im_end|>" in prompt(FEATURES["tools"], **media)


@pytest.fixture
async def prompts(monkeypatch, tmp_path):
    """The text that goes to the engine for a chat request on a published checkpoint."""
    monkeypatch.setitem(RENDERER_REGISTRY.renderers, "hf", None)
    monkeypatch.setattr(renderer_module, "_SHORT", 10**6)  # all is rendered where it is asked for
    use_plain_text_renderer()
    tools = ("--enable-auto-tool-choice", "--tool-call-parser=hermes")
    folder = published_checkpoint(tmp_path / "published")
    renderer = await make_renderer([str(folder), "--max-model-len=32768", *tools])

    def prompt(**body) -> list[int]:
        work = renderer.render({"model": "demo", **body})
        try:
            work.send(None)
        except StopIteration as end:
            return end.value.prompt_token_ids
        raise AssertionError("rendered elsewhere")

    return prompt


async def test_prompts_of_text_are_the_checkpoints_own_to_the_byte(prompts):
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(plain_turns)
    def check(turns):
        ids = prompts(messages=turns)
        for template in (MEDIA_TEMPLATE, TOOLS_TEMPLATE):
            own = TOKENIZER.apply_chat_template(
                turns, chat_template=template, add_generation_prompt=True, return_dict=False
            )
            assert ids == own

    check()


async def test_prompts_with_tools_are_the_checkpoints_own_to_the_byte(prompts):
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(tool_turns)
    def check(turns):
        sent = [dict(turn) for turn in turns]
        for turn in sent:
            if "tool_calls" in turn:
                turn["tool_calls"] = [
                    {
                        **call,
                        "id": "c",
                        "function": {
                            **call["function"],
                            "arguments": json.dumps(call["function"]["arguments"]),
                        },
                    }
                    for call in turn["tool_calls"]
                ]
            elif turn["role"] == "tool":
                turn["tool_call_id"] = "c"
        own = TOKENIZER.apply_chat_template(
            turns,
            tools=[TOOL],
            chat_template=TOOLS_TEMPLATE,
            add_generation_prompt=True,
            return_dict=False,
        )
        assert prompts(messages=sent, tools=[TOOL]) == own

    check()
