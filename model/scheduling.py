"""Which prompts a step of the engine takes in, where a step computes on a CPU.

A picture is encoded whole, in the step that takes in its first token, and whoever else is in that
step waits for it. A GPU encodes many at once; a CPU needs the longer the more there are.
"""

from typing import Any

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request

# Steps on end that media stand aside for: the next is open to them.
_MOST_HELD = 3


class TextFirstScheduler(Scheduler):
    """vLLM's scheduler, where prompts with media let text pass, and one's are encoded a step.

    In a step that takes in a prompt without media, no prompt with media goes on: text then waits
    for the step that is under way and for its own. Checked on vLLM 0.32.0.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._holding = False  # media, in this step
        self._held = 0  # steps on end

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        """Chooses what the next step computes."""
        self._holding = self._held < _MOST_HELD and self._text_begins()
        self._held = self._held + 1 if self._holding else 0
        return super().schedule(throttle_prefills)

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
        if num_computed_tokens < request.num_prompt_tokens:
            if self._holding:
                return [], 0, encoder_compute_budget, [], []
            if encoder_compute_budget < self.max_num_encoder_input_tokens:
                encoder_compute_budget = 0  # another's are encoded in this step
        return super()._try_schedule_encoder_inputs(
            request,
            num_computed_tokens,
            num_new_tokens,
            encoder_compute_budget,
            shift_computed_tokens,
        )
