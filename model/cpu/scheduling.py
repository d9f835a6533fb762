"""Which prompts a step of the engine takes in, where a step computes on a CPU.

A medium is encoded whole, in the step that takes in its first token, and whoever else is in that
step waits for it. A GPU encodes many at once; a CPU needs the longer the more there are.
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

from saccade.model.cpu.video_chunks import clip_in_pieces

# Steps on end that media stand aside for: the next is open to them.
_MOST_HELD = 3
# What a step has room for of prompts with media, while text comes in: so many tokens that it takes
# in, of which each one that it encodes first counts thrice.
_ROOM = 112
_TO_ENCODE = 2  # more, for each token
_MOST_PIECE = 40  # tokens of a clip that are encoded at once
_TEXT_SECONDS = 10.0  # after a text, in which another is expected


class TextFirstScheduler(Scheduler):
    """vLLM's scheduler, where prompts with media let text pass, and go in by small pieces.

    In a step that takes in a prompt without media, no prompt with media goes on, nor, in the first
    of several such steps, an answer about media: text then waits for the step that is under way and
    for its own. A step encodes media of one prompt; where text comes in from time to time, little
    of them, clips by pieces. Of what a step gives, first tokens are sent first.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._holding = False  # media, in this step
        self._held = 0  # steps on end
        self._text_came = -math.inf  # when, by the monotonic clock
        self._short = False  # shall this step be
        self._room = 0  # left for prompts with media, in a short step

    def add_request(self, request: Request) -> None:
        """Queues a request; clips in it are cut."""
        if not request.has_encoder_inputs:
            self._text_came = time.monotonic()
        request.mm_features = [
            piece
            for feature in request.mm_features
            for piece in clip_in_pieces(feature, _MOST_PIECE)
        ]
        super().add_request(request)

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        """Chooses what the next step computes."""
        self._holding = self._held < _MOST_HELD and self._text_begins()
        self._held = self._held + 1 if self._holding else 0
        self._short = time.monotonic() - self._text_came < _TEXT_SECONDS
        self._room = _ROOM
        return super().schedule(throttle_prefills)

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        """What the step gave: first tokens before the next ones of others, as they are sent."""
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        for of_client in outputs.values():
            of_client.outputs.sort(key=lambda output: output.prefill_stats is None)
        return outputs

    def _text_begins(self) -> bool:
        has_room = len(self.running) < self.max_num_active_reqs
        if has_room and self.waiting and not self.waiting.peek_request().has_encoder_inputs:
            return True
        return any(
            not request.has_encoder_inputs
            and request.num_computed_tokens < request.num_prompt_tokens
            for request in self.running
        )

    def _try_schedule_encoder_inputs(
        self,
        request: Request,
        num_computed_tokens: int,
        num_new_tokens: int,
        encoder_compute_budget: int,
        shift_computed_tokens: int = 0,
    ) -> tuple[list[int], int, int, list[int], list[int]]:
        is_prompt = num_computed_tokens < request.num_prompt_tokens
        if self._holding and (is_prompt or self._held == 1):
            return [], 0, encoder_compute_budget, [], []
        if is_prompt and encoder_compute_budget < self.max_num_encoder_input_tokens:
            encoder_compute_budget = 0  # another's are encoded in this step
        if is_prompt and self._short:
            num_new_tokens = self._before_too_much(request, num_computed_tokens, num_new_tokens)
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
            self._room = max(0, self._room - taken - _TO_ENCODE * sum(lengths))
        return scheduled

    def _before_too_much(self, request: Request, computed: int, tokens: int) -> int:
        """So many of the next tokens as the step has room for, with what they need encoded.

        A medium that is too large for any step is encoded in one that does nothing else.
        """
        room = self._room
        first, end = get_mm_features_in_window(request.mm_features, computed, computed + tokens)
        for index in range(first, end):
            if self.encoder_cache_manager.get_cached_num_encoder_embeds(request, index) is None:
                place = request.mm_features[index].mm_position
                before = max(0, place.offset - computed)
                left = room - _TO_ENCODE * place.length
                if left <= before and (before or self._room < _ROOM):
                    return min(before, room)
                room = max(left, 1)
        return min(tokens, room)
