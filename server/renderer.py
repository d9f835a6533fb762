"""vLLM's renderer, in which text from users cannot spell special tokens. Checked on vLLM 0.32.0.

Whatever is rendered or tokenised for the engine passes here, whichever route it came by.
"""

import asyncio
import os
from collections.abc import Awaitable, Coroutine, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

from vllm.config import VllmConfig
from vllm.exceptions import VLLMValidationError
from vllm.inputs import TextPrompt, TokensPrompt
from vllm.renderers.hf import HfRenderer, safe_apply_chat_template
from vllm.renderers.params import ChatParams, TokenizeParams
from vllm.renderers.registry import RENDERER_REGISTRY
from vllm.tokenizers.hf import HfTokenizer
from vllm.utils.async_utils import make_async

from saccade.server.special_tokens import SpecialTokens, is_escaped

Result = TypeVar("Result")

# Characters, or other values, that are worked on sooner than a thread is woken up for them.
_SHORT = 1024
_AT_ONCE: ContextVar[bool] = ContextVar("at_once", default=False)  # whatever is rendered


class PlainTextRenderer(HfRenderer):
    """Only the chat template, and a prompt of token ids, can put special tokens into a prompt."""

    def __init__(self, config: VllmConfig, tokenizer: HfTokenizer | None) -> None:
        super().__init__(config, tokenizer)
        added = self.get_tokenizer().added_tokens_decoder.items()
        self._special = SpecialTokens({token.content: i for i, token in added if token.special})
        hf_config = config.model_config.hf_config
        self._placeholders = {
            hf_config.image_token_id: "a picture",
            hf_config.video_token_id: "a clip",
        }
        # vLLM's own places for these two, off the event loop.
        self._apply_on_thread = make_async(self._apply_chat_template, executor=self._executor)
        self._apply_chat_template_async = self._apply_short_at_once
        self._tokenize_on_thread = make_async(self._tokenize_prompt, executor=self._executor)
        self._tokenize_prompt_async = self._tokenize_short_at_once

    async def render_chat_async(
        self, conversations: Any, chat_params: ChatParams, *args: Any, **options: Any
    ) -> Any:
        """Little text is rendered at once: otherwise it waits for the event loop several times."""
        plain = all(
            isinstance(value, str)
            for messages in conversations
            for message in messages
            for value in message.values()
        )
        given = [conversations, chat_params.chat_template_kwargs]
        if plain and _ends_soon(chat_params.chat_template, given):
            return self.render_chat(conversations, chat_params, *args, **options)
        return await super().render_chat_async(conversations, chat_params, *args, **options)

    def render_messages(self, messages: Any, params: ChatParams) -> Any:
        """By the asynchronous way, which is the one that escapes; text waits for nothing there."""
        token = _AT_ONCE.set(True)
        try:
            return _finished(self.render_messages_async(messages, params))
        finally:
            _AT_ONCE.reset(token)

    async def _render_with_timeout(self, rendering: Awaitable[str]) -> str:
        if isinstance(rendering, asyncio.Future) and rendering.done():
            return rendering.result()
        return await super()._render_with_timeout(rendering)

    def _apply_short_at_once(
        self,
        model_config: Any,
        tokenizer: Any,
        conversation: Any,
        *,
        chat_template: str | None = None,
        **options: Any,
    ) -> Awaitable[str]:
        at_once = _AT_ONCE.get() or _ends_soon(chat_template, [conversation, options])
        apply = self._apply_chat_template if at_once else self._apply_on_thread
        text = apply(model_config, tokenizer, conversation, chat_template=chat_template, **options)
        if not isinstance(text, str):
            return text
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        done.set_result(text)
        return done

    def _apply_chat_template(
        self,
        model_config: Any,
        tokenizer: Any,
        conversation: Any,
        *,
        chat_template: str | None = None,
        **options: Any,
    ) -> str:
        # Arguments of tool calls have been parsed by now: no escape of JSON's hides a spelling.
        options = self._special.escape(options) | {"tokenize": False}
        return safe_apply_chat_template(
            model_config,
            tokenizer,
            self._special.escape(conversation),
            chat_template=chat_template,
            **options,
        )

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
        if not is_escaped(prompt["prompt"]):
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


def is_short(value: Any) -> bool:
    """Whether ``value`` holds few characters and other values, at any depth and keys included.

    Takes no longer where it holds many.
    """
    left, rest = _SHORT, [value]
    while rest:
        one = rest.pop()
        left -= len(one) if isinstance(one, str | dict | list | tuple) else 1
        if left < 0:
            return False
        if isinstance(one, dict):
            rest += [*one, *one.values()]
        elif isinstance(one, list | tuple):
            rest += one
    return True


def _ends_soon(chat_template: str | None, given: Any) -> bool:
    # The checkpoint's own template is known to end.
    return chat_template is None and is_short(given)


def _finished(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of work that never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    work.close()
    raise RuntimeError("what is rendered at once has to wait")


def use_plain_text_renderer() -> None:
    """Makes vLLM build this renderer in the engine's client of this process."""
    # Texts are tokenised one by one: a pool of threads would only be waited for.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    RENDERER_REGISTRY.renderers["hf"] = (__name__, PlainTextRenderer.__name__)
