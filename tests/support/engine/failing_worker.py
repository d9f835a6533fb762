"""A worker for a CPU that cannot encode a second medium: engines load a worker by its name."""

from saccade.model.cpu.worker import SampleInStepCPUWorker


class FailingWorker(SampleInStepCPUWorker):
    """Fails as a kernel of the tower would: in the middle of the engine's step."""

    encoded = 0

    def execute_model(self, scheduler_output):
        self.encoded += len(scheduler_output.scheduled_encoder_inputs)
        if self.encoded > 1:
            raise RuntimeError("could not generate a kernel")
        return super().execute_model(scheduler_output)
