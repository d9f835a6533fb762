"""The bundled checkpoint in the shape of the published ones: two templates, each of them partial.

`chat_template.json` has images and videos but no tools; the tokenizer's template has Qwen2.5's
tools and takes text only. The prompts are those of the published checkpoints, the wording is not.
"""

import json
import os
from pathlib import Path

from saccade.server.checkpoint.bundled import bundled_checkpoint

MEDIA_TEMPLATE = (
    "{%- set seen = namespace(images=0, videos=0) -%}"
    "{%- for turn in messages -%}"
    "{%- if loop.first and turn.role != 'system' -%}"
    "{{ '<|im_start|>system\n' ~ 'You are a helpful assistant.<|im_end|>\n' }}"
    "{%- endif -%}"
    "{{ '<|im_start|>' ~ turn.role ~ '\n' }}"
    "{%- if turn.content is string -%}"
    "{{ turn.content }}"
    "{%- else -%}"
    "{%- for item in turn.content -%}"
    "{%- if item.type == 'image' or 'image' in item or 'image_url' in item -%}"
    "{%- set seen.images = seen.images + 1 -%}"
    "{%- if add_vision_id -%}{{ 'Picture ' ~ seen.images ~ ': ' }}{%- endif -%}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- elif item.type == 'video' or 'video' in item -%}"
    "{%- set seen.videos = seen.videos + 1 -%}"
    "{%- if add_vision_id -%}{{ 'Video ' ~ seen.videos ~ ': ' }}{%- endif -%}"
    "{{ '<|vision_start|><|video_pad|><|vision_end|>' }}"
    "{%- elif 'text' in item -%}"
    "{{ item.text }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "{{ '<|im_end|>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
"""Images and videos, no tools: those, calls of them and the role `tool` mean nothing to it."""

TOOLS_TEMPLATE = r"""
{%- if messages[0].role == 'system' -%}
    {%- set first = messages[0].content -%}
{%- else -%}
    {%- set first = 'You are a helpful assistant.' -%}
{%- endif -%}
{{- '<|im_start|>system\n' + first -}}
{%- if tools -%}
    {{- '\n\n# Tools\n\nYou may call one or more functions to assist with the user query.' -}}
    {{- '\n\nYou are provided with function signatures within <tools></tools> XML tags:' -}}
    {{- '\n<tools>' -}}
    {%- for tool in tools -%}
        {{- '\n' + (tool | tojson) -}}
    {%- endfor -%}
    {{- '\n</tools>\n\nFor each function call, return a json object with function name and ' -}}
    {{- 'arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n' -}}
    {{- '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>' -}}
{%- endif -%}
{{- '<|im_end|>\n' -}}
{%- for turn in messages -%}
    {%- if turn.role == 'assistant' and turn.tool_calls -%}
        {{- '<|im_start|>assistant' -}}
        {%- if turn.content -%}
            {{- '\n' + turn.content -}}
        {%- endif -%}
        {%- for call in turn.tool_calls -%}
            {%- set called = call.function if call.function is defined else call -%}
            {{- '\n<tool_call>\n{"name": "' + called.name + '", "arguments": ' -}}
            {{- called.arguments | tojson -}}
            {{- '}\n</tool_call>' -}}
        {%- endfor -%}
        {{- '<|im_end|>\n' -}}
    {%- elif turn.role == 'tool' -%}
        {%- if loop.first or loop.previtem.role != 'tool' -%}
            {{- '<|im_start|>user' -}}
        {%- endif -%}
        {{- '\n<tool_response>\n' ~ turn.content ~ '\n</tool_response>' -}}
        {%- if loop.last or loop.nextitem.role != 'tool' -%}
            {{- '<|im_end|>\n' -}}
        {%- endif -%}
    {%- elif turn.role in ('user', 'assistant') or (turn.role == 'system' and not loop.first) -%}
        {{- '<|im_start|>' + turn.role + '\n' + turn.content + '<|im_end|>\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\n' -}}
{%- endif -%}
"""
"""Qwen2.5's: text only, with tools."""

_PIXELS = {
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "merge_size": 2,
    "patch_size": 14,
    "resample": 3,
    "rescale_factor": 1 / 255,
    "temporal_patch_size": 2,
}
_SIZE = {"shortest_edge": 3136, "longest_edge": 12845056}

IMAGE_PROCESSOR = {
    **_PIXELS,
    "image_processor_type": "Qwen2VLImageProcessor",
    "max_pixels": 12845056,
    "min_pixels": 3136,
    "processor_class": "Qwen2_5_VLProcessor",
    "size": _SIZE,
}
"""preprocessor_config.json, as transformers 4.49 and later write it."""

VIDEO_PROCESSOR = {
    **_PIXELS,
    "do_sample_frames": False,
    "max_frames": 768,
    "min_frames": 4,
    "processor_class": "Qwen2_5_VLProcessor",
    "return_metadata": False,
    "size": _SIZE,
    "video_processor_type": "Qwen2VLVideoProcessor",
}
"""video_preprocessor_config.json, as transformers 4.52 and later write it."""

_GENERATION = {
    "bos_token_id": None,
    "do_sample": True,
    "eos_token_id": None,
    "pad_token_id": None,
    "repetition_penalty": 1.0,
    "temperature": 1e-06,
    "transformers_version": "4.49.0",
}


def published_checkpoint(folder: Path, base: Path | None = None) -> Path:
    """Makes `folder` a checkpoint in the published shape, with the weights of `base` (linked).

    Args:
        base: the bundled checkpoint unless another is given.
    """
    base = base or bundled_checkpoint()
    folder.mkdir(parents=True, exist_ok=True)
    for file in base.iterdir():
        if file.name != "chat_template.json" and not file.name.endswith("or_config.json"):
            os.symlink(file, folder / file.name)
    generation = json.loads((base / "generation_config.json").read_text())
    tokenizer = json.loads((base / "tokenizer_config.json").read_text())
    contents = {
        "chat_template.json": {"chat_template": MEDIA_TEMPLATE},
        "tokenizer_config.json": {**tokenizer, "chat_template": TOOLS_TEMPLATE},
        "preprocessor_config.json": IMAGE_PROCESSOR,
        "video_preprocessor_config.json": VIDEO_PROCESSOR,
        "generation_config.json": {**_GENERATION, **generation},
    }
    for name, content in contents.items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return folder


def saved_again(folder: Path, base: Path | None = None) -> Path:
    """The same checkpoint as transformers 5 saves a fine-tune of it: one file for processors."""
    published_checkpoint(folder, base)
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        (folder / name).unlink()
    nested = {
        "image_processor": {
            name: value
            for name, value in IMAGE_PROCESSOR.items()
            if name not in ("min_pixels", "max_pixels", "processor_class")
        },
        "processor_class": "Qwen2_5_VLProcessor",
        "video_processor": VIDEO_PROCESSOR,
    }
    (folder / "processor_config.json").write_text(json.dumps(nested, indent=2), encoding="utf-8")
    (folder / "chat_template.json").unlink()
    (folder / "chat_template.jinja").write_text(MEDIA_TEMPLATE, encoding="utf-8")
    return folder
