"""vLLM's renderer, in which text from users cannot spell special tokens.

Whatever is rendered or tokenised for the engine passes here, whichever route it came by.
"""

import os
import time
from bisect import bisect_left
from collections.abc import Sequence
from contextvars import Context, copy_context
from functools import lru_cache, partial
from typing import Any

from vllm.config import VllmConfig
from vllm.exceptions import VLLMValidationError
from vllm.inputs import TextPrompt, TokensPrompt
from vllm.renderers.chat_utils import ConversationMessage, parse_chat_messages
from vllm.renderers.hf import HfRenderer, safe_apply_chat_template
from vllm.renderers.inputs import DictPrompt
from vllm.renderers.inputs.preprocess import parse_dec_only_prompt
from vllm.renderers.params import ChatParams, TokenizeParams
from vllm.renderers.registry import RENDERER_REGISTRY
from vllm.tokenizers.hf import HfTokenizer
from vllm.utils.async_utils import make_async

from saccade.server.core.errors import InvalidRequest
from saccade.server.engine.prompt.chat_templates import MediaNotInPrompt
from saccade.server.engine.prompt.checkpoint_templates import TemplateReader
from saccade.server.engine.prompt.conversation_shape import (
    MODALITIES,
    Shape,
    first_media,
    keep_media_of_developers,
)
from saccade.server.engine.prompt.request_media import close_connector, take_media
from saccade.server.engine.prompt.special_tokens import MARK, SpecialTokens

# Characters or other values: prompts up to this size are rendered inline, a thread hop costs more.
_SHORT = 1024


class PlainTextRenderer(HfRenderer):
    """Only the chat template, and a prompt of token ids, can put special tokens into a prompt."""

    def __init__(self, config: VllmConfig, tokenizer: HfTokenizer | None) -> None:
        super().__init__(config, tokenizer)
        added = self.get_tokenizer().added_tokens_decoder.items()
        self._special = SpecialTokens({token.content: i for i, token in added if token.special})
        hf_config = config.model_config.hf_config
        self._placeholders = {
            hf_config.image_token_id: "an image",
            hf_config.video_token_id: "a video",
        }
        spellings = self.get_tokenizer().convert_ids_to_tokens(list(self._placeholders))
        self._spellings = dict(zip(MODALITIES, spellings, strict=True))
        reader = TemplateReader(
            self.get_tokenizer(), self._spellings, config.model_config.tokenizer_revision
        )
        self.templates = reader.checkpoint()
        self.given_templates = lru_cache(maxsize=8)(reader.given)
        self._run_on_thread = make_async(Context.run, executor=self._executor)
        # vLLM's own place for this one.
        self._tokenize_on_thread = make_async(self._tokenize_prompt, executor=self._executor)
        self._tokenize_prompt_async = self._tokenize_short_at_once

    async def render_chat_async(
        self,
        conversations: Any,
        chat_params: ChatParams,
        tok_params: TokenizeParams | None = None,
        *,
        prompt_extras: dict[str, Any] | None = None,
        skip_mm_cache: bool = False,
    ) -> Any:
        """A short prompt is rendered inline: a turn of the event loop is one behind all answers.

        Much text is worked on elsewhere. Its media follow at the end: they take less than a hop.
        """
        tok_params = tok_params or self.default_chat_tok_params
        # Other templates than the checkpoint's own may loop: they are never rendered inline.
        if chat_params.chat_template is None and is_short(
            [conversations, chat_params.chat_template_kwargs]
        ):
            return self.render_chat(
                conversations,
                chat_params,
                tok_params,
                prompt_extras=prompt_extras,
                skip_mm_cache=skip_mm_cache,
            )
        arrived = time.time()
        rendered = [
            await self.render_messages_async(messages, chat_params) for messages in conversations
        ]
        prompts = await self.tokenize_prompts_async([prompt for _, prompt in rendered], tok_params)
        extras = {**(prompt_extras or {}), "media_io_kwargs": chat_params.media_io_kwargs or {}}
        self._apply_prompt_extras(prompts, extras)
        return [conversation for conversation, _ in rendered], [
            self.process_for_engine(
                prompt, arrived, skip_mm_cache=skip_mm_cache, tok_params=tok_params
            )
            for prompt in prompts
        ]

    def render_messages(
        self, messages: Any, params: ChatParams
    ) -> tuple[list[ConversationMessage], DictPrompt]:
        """One conversation, its text escaped, and the media in it."""
        model_config, tokenizer = self.model_config, self.get_tokenizer()
        conversation, _, named = parse_chat_messages(
            messages,
            model_config,
            "openai",  # parts; a template that takes text gets text
            params.media_io_kwargs,
            params.mm_processor_kwargs,
        )
        if any(message["role"] == "developer" for message in conversation):
            conversation = keep_media_of_developers(conversation)
        options = params.get_apply_chat_template_kwargs()
        text = self._apply_chat_template(model_config, tokenizer, conversation, **options)
        names = named or {}
        # The text of users is escaped: every placeholder is the template's.
        for modality, placeholder in self._spellings.items():
            sent, placed = len(names.get(modality, ())), text.count(placeholder)
            if placed > sent:
                raise InvalidRequest(
                    f"the chat template puts {placed} {modality}s into a prompt of {sent}",
                    "messages",
                )
            if placed < sent:
                lacks = partial(self._lacks_placeholder, conversation, options, modality)
                raise MediaNotInPrompt(modality, bisect_left(range(1, sent + 1), True, key=lacks))
        prompt = parse_dec_only_prompt(text)
        if names:
            # Without the names: the engine's caches know media by their digests.
            prompt["multi_modal_data"] = take_media(names)
        return _echoed(conversation), prompt

    async def render_messages_async(self, messages: Any, params: ChatParams) -> Any:
        """As `render_messages`, off the event loop."""
        # The request's media are in the context of its task, which threads do not inherit.
        rendered = self._run_on_thread(copy_context(), self.render_messages, messages, params)
        return await self._render_with_timeout(rendered)

    def _apply_chat_template(
        self,
        model_config: Any,
        tokenizer: Any,
        conversation: Any,
        *,
        chat_template: str | None = None,
        **options: Any,
    ) -> str:
        given = chat_template is not None
        templates = self.given_templates(chat_template) if given else self.templates
        template = templates.choose(Shape.of(conversation, options))
        # Arguments of tool calls have been parsed by now: no escape of JSON's hides a spelling.
        options = self._special.escape(options) | template.options | {"tokenize": False}
        return safe_apply_chat_template(
            model_config,
            tokenizer,
            self._special.escape(template.adapted(conversation)),
            chat_template=template.text,
            **options,
        )

    def _lacks_placeholder(
        self, conversation: Any, options: dict[str, Any], modality: str, media: int
    ) -> bool:
        """Whether a prompt with only the first ``media`` of a modality lacks a placeholder."""
        fewer = first_media(conversation, modality, media)
        prompt = self._apply_chat_template(
            self.model_config, self.get_tokenizer(), fewer, **options
        )
        return prompt.count(self._spellings[modality]) < media

    async def render_cmpl_async(self, prompts: Sequence[Any], *args: Any, **options: Any) -> Any:
        """Prompts without a template: all text in them is the user's.

        Raises:
            VLLMValidationError: token ids that stand for a medium, which is not there.
        """
        return await super().render_cmpl_async(
            [self._checked(prompt) for prompt in prompts], *args, **options
        )

    def _checked(self, prompt: Any) -> Any:
        if (ids := prompt.get("prompt_token_ids")) is not None:
            for token, medium in self._placeholders.items():
                if token in ids:
                    raise VLLMValidationError(
                        f"the token {token} stands for {medium}; prompts of tokens take no media",
                        parameter="prompt",
                        value=token,
                    )
            return prompt
        return {**prompt, "prompt": self._special.escape(prompt.get("prompt"))}

    async def _tokenize_short_at_once(
        self, prompt: TextPrompt, params: TokenizeParams
    ) -> TokensPrompt:
        if len(prompt["prompt"]) <= _SHORT:
            return self._tokenize_prompt(prompt, params)
        return await self._tokenize_on_thread(prompt, params)

    def _tokenize_prompt(self, prompt: TextPrompt, params: TokenizeParams) -> TokensPrompt:
        if MARK not in prompt["prompt"]:
            return super()._tokenize_prompt(prompt, params)
        tokenizer = self.get_tokenizer()
        ids, offsets, text = self._special.encode(tokenizer, prompt["prompt"])
        options = params.get_encode_kwargs()
        if options["truncation"] and len(ids) > (length := options["max_length"]):
            cut = slice(-length, None) if tokenizer.truncation_side == "left" else slice(length)
            ids, offsets = ids[cut], offsets[cut]
        prompt = {**prompt, "prompt": text}
        wanted = offsets if self._wants_offsets(prompt, params) else None
        return self._build_tokens_prompt(ids, prompt, offset_mapping=wanted)


def _echoed(conversation: list[Any]) -> list[Any]:
    """The conversation with the text of its last message, which ``echo`` repeats, as text."""
    content = conversation[-1].get("content") if conversation else None
    if not isinstance(content, list):
        return conversation
    text = "".join(part["text"] for part in content if "text" in part)
    return [*conversation[:-1], {**conversation[-1], "content": text}]


def is_short(value: Any) -> bool:
    """Whether ``value`` holds few characters and other values, at any depth and keys included.

    Takes no longer where it holds many.
    """
    left, rest = _SHORT, [value]
    while rest:
        one = rest.pop()
        # A union of types would be made anew for each.
        left -= len(one) if isinstance(one, (str, dict, list, tuple)) else 1
        if left < 0:
            return False
        if isinstance(one, dict):
            rest += [*one, *one.values()]
        elif isinstance(one, (list, tuple)):
            rest += one
    return True


def use_plain_text_renderer() -> None:
    """Makes vLLM build this renderer in the engine's client of this process, and fetch nothing."""
    close_connector()
    # Texts are tokenised one by one: a pool of threads would only be waited for.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    RENDERER_REGISTRY.renderers["hf"] = (__name__, PlainTextRenderer.__name__)
