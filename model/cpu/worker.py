"""A worker for a CPU that computes and samples in one call per step."""

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.outputs import AsyncModelRunnerOutput, ModelRunnerOutput
from vllm.v1.worker.cpu_worker import CPUWorker


class SampleInStepCPUWorker(CPUWorker):
    """vLLM's worker, which samples within `execute_model` where no request has a grammar.

    vLLM's engine calls `execute_model`, makes the grammars' masks meanwhile, and calls
    `sample_tokens`. Without grammars the second round trip only takes time: on a CPU, where the
    engine has to be woken on a busy core first, more than sampling does. Relies on the engine
    taking a result from either call; an engine that skips the second without grammars would make
    this unnecessary.
    """

    def execute_model(
        self, scheduler_output: SchedulerOutput
    ) -> ModelRunnerOutput | AsyncModelRunnerOutput | None:
        """Computes a step; returns None if the engine must ask for samples."""
        output = super().execute_model(scheduler_output)
        # With pipeline stages, the engine asks for samples before it has seen what this returns.
        staged = self.parallel_config.pipeline_parallel_size > 1
        if output is None and not staged and not scheduler_output.has_structured_output_requests:
            return self.sample_tokens(None)
        return output
