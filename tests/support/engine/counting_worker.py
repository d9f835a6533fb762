"""The CPU's worker, which also counts: engines load a worker by its name."""

from saccade.model.cpu.worker import SampleInStepCPUWorker


class CountingWorker(SampleInStepCPUWorker):
    """Counts the steps, and how often the engine had to ask for samples."""

    steps = asked = 0
    stepping = False

    def execute_model(self, scheduler_output):
        self.steps += 1
        self.stepping = True
        try:
            return super().execute_model(scheduler_output)
        finally:
            self.stepping = False

    def sample_tokens(self, grammar_output):
        self.asked += not self.stepping
        return super().sample_tokens(grammar_output)

    def counts(self):
        return self.steps, self.asked


def guarded_runner(_):
    """Runs in a worker: whether its runner keeps the generators of seeded requests."""
    from vllm.v1.worker.cpu_model_runner import CPUModelRunner

    return hasattr(CPUModelRunner.sample_tokens, "keeps_generators")
