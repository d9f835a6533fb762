"""A worker for a CPU that is called once a step."""

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.outputs import AsyncModelRunnerOutput, ModelRunnerOutput
from vllm.v1.worker.cpu_worker import CPUWorker


class OneCallCPUWorker(CPUWorker):
    """vLLM's worker, which samples as soon as it has computed.

    vLLM's engine asks a worker to compute, and once that is done, to sample under the grammars,
    whose masks it has made meanwhile. Where no request has a grammar, the second message there and
    back only takes time: on a CPU, where the engine has to be woken on a busy core first, more than
    sampling does.
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
