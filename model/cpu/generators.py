"""Random generators of seeded requests that can go back by one sample, on a CPU.

vLLM's runner samples for every request of a step, also for one whose prompt is not all in yet. That
sample is discarded, and the request's generator must go back, or how a prompt was cut would decide
what its seed means. vLLM takes four off the generator's offset, which counts what a CUDA generator
has given out; a CPU generator has no offset. Checked on vLLM 0.32.0, model runner V1.

Replaces `CPUModelRunner.sample_tokens` and reads its `input_batch` and `requests`: a runner that
samples no request whose prompt is not complete would make this unnecessary.
"""

from functools import wraps
from typing import Any

import torch


class RewindableGenerator(torch.Generator):
    """A CPU generator whose offset is negative for "as it was when `keep` was called last"."""

    _kept: torch.Tensor | None = None

    def keep(self) -> None:
        """Keeps the present state, to come back to."""
        self._kept = self.get_state()

    def get_offset(self) -> int:
        """Zero: vLLM asks only to count back from here."""
        return 0

    def set_offset(self, offset: int) -> torch.Generator:
        """Goes back to the state that was kept.

        Raises:
            ValueError: nothing was kept, or the offset is not one that counts back.
        """
        if self._kept is None or offset >= 0:
            raise ValueError("this generator can only go back to a state that was kept")
        return self.set_state(self._kept)


def keep_generators(runner: Any) -> None:
    """Lets the generators of a runner's requests go back to where they are now.

    Those that vLLM has made are replaced by ours in the same state.

    Args:
        runner: vLLM's model runner (V1), before it samples.
    """
    batch = runner.input_batch
    for index, generator in batch.generators.items():
        if not isinstance(generator, RewindableGenerator):
            state = generator.get_state()
            generator = RewindableGenerator()
            generator.set_state(state)
            batch.generators[index] = generator
            # From there it comes back into the batch when the request was not scheduled for a step.
            runner.requests[batch.req_ids[index]].generator = generator
        generator.keep()


def guard_generators() -> None:
    """Makes vLLM's runner on a CPU keep its generators before it samples, in this process.

    For processes that make our model. May be called any number of times; does nothing where no CPU
    computes.
    """
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.v1.worker.cpu_model_runner import CPUModelRunner

    sample = CPUModelRunner.sample_tokens
    if getattr(sample, "keeps_generators", False):
        return

    @wraps(sample)
    def sample_tokens(self: Any, *arguments: Any, **options: Any) -> Any:
        if self.input_batch.generators:
            keep_generators(self)
        return sample(self, *arguments, **options)

    sample_tokens.keeps_generators = True  # type: ignore[attr-defined]
    CPUModelRunner.sample_tokens = sample_tokens
