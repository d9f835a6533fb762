"""Trains the demo model from scratch on the CPU: `python -m saccade.demo.train --hours 5`.

A run can be stopped at any time and goes on with the same command. Its folder holds `state.pt`,
`log.jsonl` (losses, and held-out accuracy by task) and `checkpoint/`, which transformers, vLLM and
`saccade serve` load.
"""

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import TextIO

from saccade.demo import training_runtime  # isort: skip

import torch
from torch import Tensor

from saccade.demo.tokenizer import build_tokenizer
from saccade.demo.training_batch import Batch, Batcher, TowerBatch
from saccade.demo.training_data import TOWER_STEPS, held_out_examples, stream
from saccade.demo.training_heads import WEIGHTS
from saccade.demo.training_scores import mean_loss, scores
from saccade.demo.training_state import Run, default_folder

_WARM_UP = 100  # steps
_DECAY_SHARE = 0.35  # of the hours, at the end, in which the learning rate falls
_LEAST_RATE = 0.02  # of the peak
_CLIP = 1.0  # gradient norm
_LOG_EVERY, _SCORE_EVERY, _SAVE_EVERY = 20, 250, 100  # steps
_HELD_OUT = {"pictures": 96, "clips": 72}
_HELD_OUT_BATCH = 12

_EPILOG = """examples:
  nice python -m saccade.demo.train --hours 5
  python -m saccade.demo.train --hours 5 --threads 4 --folder runs/first
"""


def rate_share(step: int, done: float) -> float:
    """Of the peak learning rate: constant, then a straight fall.

    It warms up at the beginning and again when the language model joins the tower.

    Args:
        done: fraction of the run that is behind, 0 to 1.
    """
    left = (1 - done) / _DECAY_SHARE
    begun = step if step < TOWER_STEPS else step - TOWER_STEPS
    return min(1.0, (begun + 1) / _WARM_UP) * max(_LEAST_RATE, min(1.0, left))


def train_step(run: Run, batch: TowerBatch, share: float) -> dict[str, float]:
    """One step at this share of the peak learning rate; returns the losses by name.

    A batch without questions trains the tower alone.
    """
    run.set_rate(share)
    losses: dict[str, Tensor] = {}
    if isinstance(batch, Batch):
        logits, cells, states = run.model(batch)
        losses |= run.heads.of_language(states, batch) | {"answers": mean_loss(logits, batch)}
    else:
        cells = run.model.see(batch.tower)
    losses |= run.heads.of_tower(cells, batch.cells)
    total = torch.stack([WEIGHTS[name] * loss for name, loss in losses.items()]).sum()
    for optimizer in run.optimizers.values():
        optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(total)
    norm = torch.nn.utils.clip_grad_norm_(run.parameters(), _CLIP)
    if not torch.isfinite(norm):
        raise FloatingPointError(f"step {run.step}: the gradient is not finite")
    for optimizer in run.optimizers.values():
        optimizer.step()
    run.step += 1
    run.update_average()
    return {"norm": norm.item()} | {name: loss.item() for name, loss in losses.items()}


def held_out_batches(batcher: Batcher) -> list[Batch]:
    """The batches that accuracy is measured on, one question a branch."""
    batches = []
    for kind, count in _HELD_OUT.items():
        examples = [example for example in held_out_examples(kind, count) if example.turns]
        for start in range(0, len(examples), _HELD_OUT_BATCH):
            batches.append(batcher.batch(examples[start : start + _HELD_OUT_BATCH]))
    return batches


def train(run: Run, hours: float, steps: int | None = None) -> None:
    """Train until the run has had its hours, or its steps if they come first."""
    tokenizer = build_tokenizer()
    held_out = held_out_batches(Batcher(tokenizer))
    log = (run.folder / "log.jsonl").open("a", encoding="utf-8")
    started, turns, kept = time.monotonic() - run.seconds, 0, []
    for batch in stream(run.seed, run.step):
        done = max(run.seconds / (hours * 3600), run.step / steps if steps else 0.0)
        share = rate_share(run.step, done)
        kept.append(train_step(run, batch, share))
        turns += len(batch.turns) if isinstance(batch, Batch) else 0
        run.seconds = time.monotonic() - started
        over = run.seconds >= hours * 3600 or run.step == steps
        line: dict[str, object] = {"step": run.step, "seconds": round(run.seconds, 1)}
        if run.step % _LOG_EVERY == 0:
            line |= {"rate": round(share, 4), "turns": turns} | _means(kept)
            turns, kept = 0, []
            _write(log, line)
        if run.step > TOWER_STEPS and (run.step % _SCORE_EVERY == 0 or over):
            _write(log, line | {"accuracy": scores(run.average, held_out, tokenizer)})
        if run.step % _SAVE_EVERY == 0 or over:
            run.save()
            run.export()
        if over:
            break
    log.close()


def _means(kept: list[dict[str, float]]) -> dict[str, float]:
    names = {name for losses in kept for name in losses}
    columns = {name: [losses[name] for losses in kept if name in losses] for name in sorted(names)}
    return {name: round(sum(column) / len(column), 4) for name, column in columns.items()}


def _write(log: TextIO, line: dict[str, object]) -> None:
    text = json.dumps(line)
    log.write(text + "\n")
    log.flush()
    print(text, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m saccade.demo.train",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--hours", type=float, default=5.0, help="time in all, earlier runs included"
    )
    parser.add_argument("--steps", type=int, help="end after so many steps if they come first")
    parser.add_argument("--threads", type=int, default=2, help="of the trainer (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and data (default: 0)")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="of the run")
    args = parser.parse_args(arguments)
    training_runtime.keep_freed_memory()
    torch.set_num_threads(args.threads)
    args.folder.mkdir(parents=True, exist_ok=True)
    run = Run(args.folder, args.seed, fast=True)
    try:
        print(f"{'going on' if run.load() else 'starting'} at step {run.step} in {args.folder}")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        train(run, args.hours, args.steps)
    except KeyboardInterrupt:
        print(f"stopped at step {run.step}; the same command goes on from step {run.saved_step}")
        return 130
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    raise SystemExit(main())
