"""A scheduler for a CPU: prefill of text before prefill of media, media under a budget per step.

vLLM encodes an image whole, in the step that schedules its first token, and every other request of
that step waits for it. A GPU encodes many at once; on a CPU each adds its own time.

Subclasses vLLM's `Scheduler` and overrides its private `_try_schedule_encoder_inputs`, which
returns a tuple of five, and writes to `Request.mm_features`: a scheduler that takes a policy for
encoder inputs would make this unnecessary.
"""

import math
import time
from typing import Any

from vllm.multimodal.utils import get_mm_features_in_window
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutputs
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request

from saccade.model.cpu.video_chunks import split_video_feature

# Consecutive steps in which prefill of media is deferred, at most.
_MAX_DEFERRED_STEPS = 3
# Tokens of prompts with media that a step may schedule while text comes in; one that has to be
# encoded first costs `_ENCODE_COST` more.
_MEDIA_BUDGET = 112
_ENCODE_COST = 2
_VIDEO_PIECE_TOKENS = 40  # of a video, encoded at once
_TEXT_MODE_SECONDS = 10.0  # after a text request, in which another is expected


class TextFirstScheduler(Scheduler):
    """vLLM's scheduler, which defers prefill of media to prefill of text and does it by pieces.

    A step that schedules a prompt without media schedules no prompt with media, nor, in the first
    of several such steps, decoding of requests with media: a text request then waits for the step
    that is running and for its own. A step encodes media of one request; while text requests come
    in, a limited number of tokens, videos by pieces. Requests' first tokens are sent first.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._defer_media = False  # in this step
        self._deferred_steps = 0  # consecutive ones
        self._last_text = -math.inf  # arrival, by the monotonic clock
        self._text_mode = False  # text comes in: media are limited
        self._media_budget = 0  # left of this step's

    def add_request(self, request: Request) -> None:
        """Queues a request; its videos are split."""
        if not request.has_encoder_inputs:
            self._last_text = time.monotonic()
        request.mm_features = [
            piece
            for feature in request.mm_features
            for piece in split_video_feature(feature, _VIDEO_PIECE_TOKENS)
        ]
        super().add_request(request)

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        """What the next step computes."""
        has_room = len(self.running) < self.max_num_active_reqs
        queued = self.waiting.peek_request() if has_room and self.waiting else None
        text_begins = (queued is not None and not queued.has_encoder_inputs) or any(
            not request.has_encoder_inputs
            and request.num_computed_tokens < request.num_prompt_tokens
            for request in self.running
        )
        self._defer_media = self._deferred_steps < _MAX_DEFERRED_STEPS and text_begins
        self._deferred_steps = self._deferred_steps + 1 if self._defer_media else 0
        self._text_mode = time.monotonic() - self._last_text < _TEXT_MODE_SECONDS
        self._media_budget = _MEDIA_BUDGET
        return super().schedule(throttle_prefills)

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        """The step's outputs, those of first tokens first: they are sent in this order."""
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        for of_client in outputs.values():
            of_client.outputs.sort(key=lambda output: output.prefill_stats is None)
        return outputs

    def _try_schedule_encoder_inputs(
        self,
        request: Request,
        num_computed_tokens: int,
        num_new_tokens: int,
        encoder_compute_budget: int,
        shift_computed_tokens: int = 0,
    ) -> tuple[list[int], int, int, list[int], list[int]]:
        is_prompt = num_computed_tokens < request.num_prompt_tokens
        if self._defer_media and (is_prompt or self._deferred_steps == 1):
            return [], 0, encoder_compute_budget, [], []
        if is_prompt and encoder_compute_budget < self.max_num_encoder_input_tokens:
            encoder_compute_budget = 0  # another request's are encoded in this step
        if is_prompt and self._text_mode:
            num_new_tokens = self._within_media_budget(request, num_computed_tokens, num_new_tokens)
        scheduled = super()._try_schedule_encoder_inputs(
            request,
            num_computed_tokens,
            num_new_tokens,
            encoder_compute_budget,
            shift_computed_tokens,
        )
        if is_prompt:
            encoded, taken, *_ = scheduled
            lengths = [request.mm_features[index].mm_position.length for index in encoded]
            self._media_budget = max(0, self._media_budget - taken - _ENCODE_COST * sum(lengths))
        return scheduled

    def _within_media_budget(self, request: Request, computed: int, tokens: int) -> int:
        """How many of the next tokens the budget allows, with what they need encoded.

        Media too large for any step's budget are encoded in a step that does nothing else.
        """
        budget = self._media_budget
        first, end = get_mm_features_in_window(request.mm_features, computed, computed + tokens)
        for index in range(first, end):
            if self.encoder_cache_manager.get_cached_num_encoder_embeds(request, index) is None:
                place = request.mm_features[index].mm_position
                before = max(0, place.offset - computed)
                left = budget - _ENCODE_COST * place.length
                if left <= before and (before or self._media_budget < _MEDIA_BUDGET):
                    return min(before, budget)
                budget = max(left, 1)
        return min(tokens, budget)
