"""The chat templates that a checkpoint carries, from its files. Checked on transformers 5.19.

transformers builds no processor without torchvision, and vLLM then sees the tokenizer's template
only. Prompts must not depend on that, so the processor's template is read from its file.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from saccade.server.checkpoint.bundled import DEMO, bundled_checkpoint
from saccade.server.checkpoint.lookup import HubFailed
from saccade.server.engine.prompt.chat_templates import TEMPLATE, ChatTemplates, Template
from saccade.server.engine.prompt.conversation_shape import MODALITIES, Message

_SYSTEM = re.compile(r"<\|im_start\|>system\n(.*?)<\|im_end\|>\n<\|im_start\|>user\n", re.DOTALL)

Named = tuple[str, str]  # where a template comes from, and its text


class TemplateReader:
    """Makes the templates of one checkpoint.

    Args:
        tokenizer: the checkpoint's; ``name_or_path`` is where its files are.
        placeholders: the token that stands for a medium, by modality.
        revision: of the files, where they are on the hub.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        placeholders: Mapping[str, str],
        revision: str | None = None,
    ) -> None:
        self._tokenizer, self._placeholders, self._revision = tokenizer, placeholders, revision

    def checkpoint(self) -> ChatTemplates:
        """The checkpoint's templates, and this package's for what they lack."""
        jinja = self._file("chat_template.jinja")
        processor = [
            *self._keyed("processor_config.json"),
            *self._keyed("chat_template.json"),
            *jinja,
        ]
        configured, tools = _split(
            [
                *self._keyed("tokenizer_config.json"),
                ("the tokenizer", self._tokenizer.chat_template),
            ]
        )
        tools = [*self._file("additional_chat_templates/tool_use.jinja"), *tools]
        tokenizer = [*jinja, *configured]
        templates: dict[str, Template] = {}
        default_processor, _ = _split(processor)
        own = self._templates([*default_processor, *tokenizer], templates)
        for_tools = self._templates([*tools, *tokenizer, *default_processor], templates)
        whole = self._template("Saccade's", TEMPLATE.read_text(encoding="utf-8"))
        if any(template.takes_parts for template in own):
            # It writes parts of text one after the other, and the others have to agree with it.
            for template in templates.values():
                template.separator = ""
        if usable := [template for template in own if template.is_usable]:
            whole.options["default_system_prompt"] = self._default_system_prompt(usable[0])
        return ChatTemplates(own, for_tools, whole)

    def given(self, text: str) -> ChatTemplates:
        """The template that the server was started with, and no other."""
        template = [self._template("--chat-template", text)]
        return ChatTemplates(template, template)

    def _templates(self, named: Iterable[Named], known: dict[str, Template]) -> list[Template]:
        for source, text in named:
            if text not in known:
                known[text] = self._template(source, text)
        return list(dict.fromkeys(known[text] for _, text in named))

    def _template(self, source: str, text: str) -> Template:
        return Template(source, text, self._render, self._placeholders)

    def _render(
        self, template: str, conversation: Sequence[Message], options: Mapping[str, Any]
    ) -> str:
        prompt: str = self._tokenizer.apply_chat_template(
            [dict(message) for message in conversation],
            chat_template=template,
            tokenize=False,
            **options,
        )
        return prompt

    def _default_system_prompt(self, template: Template) -> str | None:
        conversation = template.adapted([{"role": "user", "content": "Hi"}])
        match = _SYSTEM.search(self._render(template.text, conversation, {}))
        return match and match[1]

    def _file(self, name: str) -> list[Named]:
        path = self._path(name)
        return [] if path is None else [(name, path.read_text(encoding="utf-8"))]

    def _keyed(self, name: str) -> list[tuple[str, Any]]:
        path = self._path(name)
        if path is None:
            return []
        try:
            return [(name, json.loads(path.read_text(encoding="utf-8")).get("chat_template"))]
        except (ValueError, AttributeError):
            raise ValueError(f"{path} is not a JSON object") from None

    def _path(self, name: str) -> Path | None:
        """Where a file of the checkpoint is; None: it has none.

        transformers' ``cached_file`` takes a hub that fails for one without the file.

        Raises:
            HubFailed: it does not say whether there is one.
        """
        model = str(self._tokenizer.name_or_path)
        if (folder := Path(model)).is_dir():
            return path if (path := folder / name).is_file() else None
        try:
            return Path(hf_hub_download(model, name, revision=self._revision))
        except Exception as error:  # of many kinds, by what stands between us and the hub
            local = isinstance(error, LocalEntryNotFoundError)  # it fails, or nobody is asked
            if (isinstance(error, EntryNotFoundError) and not local) or constants.is_offline_mode():
                return None
            if try_to_load_from_cache(model, name, revision=self._revision) is not None:
                return None  # known not to exist
            cause = error.__cause__ or error if local else error
        reason = " ".join(str(cause).split()) or type(cause).__name__
        raise HubFailed(
            f"cannot find out from {constants.ENDPOINT} whether the model {model!r} has a {name}, "
            f"on which its prompts depend: {reason} (HF_HUB_OFFLINE=1 takes what the cache holds)"
        )


def read_model_templates(model: str) -> ChatTemplates:
    """The templates that a server of this model uses unless it is given another.

    Args:
        model: Hugging Face id, folder, or ``demo``.

    Raises:
        OSError, ValueError: no such model, or not one of these.
    """
    if model == DEMO:
        model = str(bundled_checkpoint())
    config = AutoConfig.from_pretrained(model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = [getattr(config, f"{modality}_token_id", None) for modality in MODALITIES]
    if None in ids:
        raise ValueError("it is not a Qwen2.5-VL model")
    placeholders = dict(zip(MODALITIES, tokenizer.convert_ids_to_tokens(ids), strict=True))
    return TemplateReader(tokenizer, placeholders).checkpoint()


def _split(found: Iterable[tuple[str, Any]]) -> tuple[list[Named], list[Named]]:
    """Default templates and those for tools; each found one is a text, or several with names."""
    defaults: list[Named] = []
    tools: list[Named] = []
    for source, value in found:
        if isinstance(value, list):
            value = {one.get("name"): one.get("template") for one in value if isinstance(one, dict)}
        texts = value if isinstance(value, dict) else {"default": value}
        for name, group in (("default", defaults), ("tool_use", tools)):
            if isinstance(texts.get(name), str):
                group.append((source, texts[name]))
    return defaults, tools
