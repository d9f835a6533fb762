"""Script: what an engine answers on vLLM's model runner V1 or V2, and what V2 gave the model.

``runner_answers.py OUT.json v1|v2`` runs the groups of `runner_requests` one after another on the
bundled checkpoint, the requests of a group at once: V2 with the scheduler and the worker that the
server has on a CPU (where a video is several features), again with vLLM's own as on CUDA, and some
groups a third time with the tower by vLLM's manager of encoder graphs, whose captures are faked as
in `graph_replays`.
"""

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runner_requests import BLOCK, BLOCKS, BY_GRAPH, GROUPS, ON_V2, STEP

from saccade.server.checkpoint.bundled import bundled_checkpoint


def answer(output: Any) -> dict[str, Any]:
    """A request's output as JSON; log-probabilities as ``[[token, logprob], ...]`` of a token."""

    def pairs(entries: Any) -> list[list[tuple[int, float]] | None] | None:
        if entries is None:
            return None
        return [entry and [(t, e.logprob) for t, e in entry.items()] for entry in entries]

    return {
        "prompt": list(output.prompt_token_ids),
        "cached": output.num_cached_tokens,
        "prompt logprobs": pairs(output.prompt_logprobs),
        "answers": [
            {
                "tokens": list(one.token_ids),
                "text": one.text,
                "logprobs": pairs(one.logprobs),
            }
            for one in output.outputs
        ],
    }


@contextmanager
def started(**options: Any) -> Iterator[Any]:
    """An engine in this process, as small as that requests meet its limits."""
    from vllm import LLM
    from vllm.distributed import cleanup_dist_env_and_memory

    llm = LLM(
        model=str(bundled_checkpoint()),
        dtype="float32",
        enforce_eager=True,
        max_model_len=512,
        max_num_batched_tokens=STEP,
        max_num_seqs=8,
        block_size=BLOCK,
        num_gpu_blocks_override=BLOCKS,
        kv_cache_memory_bytes=1 << 28,
        distributed_executor_backend="uni",
        limit_mm_per_prompt={"image": 8, "video": 4},
        disable_log_stats=False,
        seed=0,
        **options,
    )
    try:
        yield llm
    finally:
        llm.llm_engine.engine_core.shutdown()
        cleanup_dist_env_and_memory()


def runner_of(llm: Any) -> Any:
    return llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner


def preemptions(llm: Any) -> int:
    (counter,) = (one for one in llm.get_metrics() if one.name == "vllm:num_preemptions")
    return int(counter.value)


def run(llm: Any, groups: Sequence[str], records: "Records | None" = None) -> dict[str, Any]:
    """Answers of groups, by name; what the model was given meanwhile."""
    found: dict[str, Any] = {}
    for name in groups:
        before = preemptions(llm)
        asked = ON_V2[name]
        if name == "cold":
            llm.llm_engine.reset_encoder_cache()
        if records is not None:
            records.begin()
        outputs = llm.generate(
            [one.prompt() for one in asked], [one.sampling() for one in asked], use_tqdm=False
        )
        found[name] = {
            "answers": [answer(output) for output in outputs],
            "preemptions": preemptions(llm) - before,
        }
        if records is not None:
            found[name] |= records.of([output.request_id for output in outputs])
    return found


class Records:
    """What runner V2 gives the model: positions, by request, and media to encode, by call."""

    def __init__(self, llm: Any) -> None:
        self.runner = runner_of(llm)
        self.batch: Any = None
        self.begin()
        state = self.runner.model_state
        prepare, encode = state.prepare_inputs, state.encoder_runner.execute_mm_encoder

        def prepare_inputs(batch: Any, states: Any) -> Any:
            self.batch = batch
            return prepare(batch, states)

        def execute_mm_encoder(mm_kwargs: Any) -> Any:
            self.encoded.append([modality for modality, _ in mm_kwargs])
            return encode(mm_kwargs)

        state.prepare_inputs = prepare_inputs
        state.encoder_runner.execute_mm_encoder = execute_mm_encoder
        self.runner.model.register_forward_pre_hook(self._note, with_kwargs=True)

    def begin(self) -> None:
        self.positions: list[tuple[str, int, list[list[int]]]] = []
        self.encoded: list[list[str]] = []

    def _note(self, model: Any, _: Any, inputs: dict[str, Any]) -> None:
        batch = self.batch
        if batch is None:
            return  # a dummy run
        bounds = batch.query_start_loc_np.tolist()
        for place, name in enumerate(batch.req_ids):
            columns = inputs["positions"][:, bounds[place] : bounds[place + 1]]
            start = int(batch.num_computed_tokens_np[place])
            self.positions.append((name, start, columns.tolist()))
        self.batch = None

    def of(self, requests: Sequence[str]) -> dict[str, Any]:
        """Of each request its steps, ``[first token, positions [3, tokens]]``, in their order.

        With ``n`` answers, vLLM's names are ``0_NAME-...`` and so on.
        """
        steps = [
            [step[1:] for step in self.positions if re.fullmatch(rf"(\d+_)?{name}-.*", step[0])]
            for name in requests
        ]
        return {"steps": steps, "encoded": self.encoded}


def start_as_on_cuda(llm: Any, records: Records) -> list[list[str]]:
    """What CUDA's worker does before it serves: the largest media encoded, to measure memory, and
    some steps of made-up requests, to compile kernels. Returns the media by call."""
    from vllm.v1.worker.gpu.warmup import warmup_kernels

    worker = llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker
    # Its language model runs on memory that nobody has written: the interpreter minds NaN.
    records.runner._dummy_sampler_run = lambda hidden_states: None
    records.begin()
    records.runner.profile_run()
    warmup_kernels(records.runner, worker.execute_model, worker.sample_tokens)
    return records.encoded


def replay_graphs(llm: Any, records: Records) -> Any:
    """Hands V2's encoder runner vLLM's manager of graphs, with captures that are called again."""
    import torch
    from graph_replays import Reruns

    encoder = records.runner.model_state.encoder_runner
    config = llm.llm_engine.vllm_config
    config.compilation_config.encoder_cudagraph_token_budgets = [64, 256, 512]
    config.compilation_config.encoder_cudagraph_max_vision_items_per_batch = 4
    manager = Reruns(config, torch.device("cpu"), torch.float32, encoder.model)
    encoder.cudagraph_manager = manager
    assert encoder.has_cudagraph()
    with torch.inference_mode():
        manager.capture(graph_pool=object())
    llm.reset_prefix_cache()
    llm.llm_engine.reset_encoder_cache()
    return manager


def answers(runner: str) -> dict[str, Any]:
    """Of one runner, by what it ran with."""
    if runner == "v1":
        with started() as llm:
            return {"plain": run(llm, tuple(GROUPS)), "runners": [type(runner_of(llm)).__module__]}

    from interpreted_runner import schedule_asynchronously

    found: dict[str, Any] = {"runners": []}
    of_the_server = {
        "scheduler_cls": "saccade.model.cpu.scheduling.TextFirstScheduler",
        "worker_cls": "counting_worker.CountingWorker",  # ours, which also counts
    }
    with started(**of_the_server) as llm:
        records = Records(llm)
        found["runners"].append(type(records.runner).__module__)
        free = [name for name in ON_V2 if name != "sampled"]
        found["pieces"] = run(llm, free, records)
        found["counts"] = llm.collective_rpc("counts")
        found["pieces"] |= run(llm, ["sampled"], records)
        found["counts"] += llm.collective_rpc("counts")
    schedule_asynchronously()
    with started() as llm:
        records = Records(llm)
        found["profiled"] = start_as_on_cuda(llm, records)
        found["runners"].append(type(records.runner).__module__)
        found["plain"] = run(llm, tuple(ON_V2), records)
        found["asynchronous"] = llm.llm_engine.vllm_config.scheduler_config.async_scheduling
        manager = replay_graphs(llm, records)
        found["graphs"] = run(llm, BY_GRAPH, records)
        found["by graph"] = manager.graph_hits
    return found


def main(out: str, runner: str) -> None:
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    if runner == "v2":
        from interpreted_runner import interpret_runner_v2

        interpret_runner_v2()
    Path(out).write_text(json.dumps(answers(runner)))


if __name__ == "__main__":
    main(*sys.argv[1:])
