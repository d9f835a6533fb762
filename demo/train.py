"""Trains the demo model from scratch on the CPU: `python -m saccade.demo.train`.

First the tower and a language model learn to see and to answer, then (`--talk`) a deeper language
model learns conversations, in the folder `talk` of the first run's. A run can be stopped at any
time and goes on with the same command. Its folder holds `state.pt`, `log.jsonl` (losses, and
held-out accuracy by task) and `checkpoint/`, which transformers, vLLM and `saccade serve` load.
"""

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import TextIO

from saccade.demo.training import runtime  # isort: skip

import torch
from torch import Tensor

from saccade.demo.checkpoints.tokenizer import build_tokenizer
from saccade.demo.conversations.draw import SEVERAL_FROM
from saccade.demo.evaluation.cases import Case
from saccade.demo.evaluation.talk_cases import TALK_FIGURES, talk_cases
from saccade.demo.training.batch import Batch, Batcher, TowerBatch
from saccade.demo.training.data import held_out_examples, stream
from saccade.demo.training.model.heads import WEIGHTS, TalkHeads
from saccade.demo.training.schedule import Schedule, TalkSchedule
from saccade.demo.training.scores import mean_loss, scale_loss, scores, talk_scores
from saccade.demo.training.state import Run, default_folder
from saccade.demo.training.talk_batch import TalkBatcher

SCHEDULE = Schedule(tower=1200, both=7600, clips=4000)  # of the run that `TRAINING.md` describes
TALK_SCHEDULE = TalkSchedule(9000)
_CLIP = 1.0  # gradient norm
_LOG_EVERY, _SCORE_EVERY, _SAVE_EVERY = 20, 500, 100  # steps
_SCORE_TALK_EVERY = 1000  # it takes a minute
_HELD_OUT = {"pictures": 96, "clips": 72}
_HELD_OUT_BATCH = 12
_TALK_CASES, _TALK_SEED = 24, 2**20  # of each figure; above the evaluation's

_EPILOG = """examples:
  python -m saccade.demo.train && python -m saccade.demo.train --talk
  python -m saccade.demo.train --start demo/trained --tower-steps 0 --folder runs/longer
  python -m saccade.demo.train --both-steps 2000 --clips-steps 0 --threads 4 --folder runs/first
"""


def train_step(run: Run, batch: TowerBatch, share: float) -> dict[str, float]:
    """One step at this share of the peak learning rate; returns the losses by name.

    A batch without questions trains the tower alone.
    """
    run.set_rate(share)
    losses: dict[str, Tensor] = {}
    if isinstance(batch, Batch):
        logits, cells, states = run.model(batch)
        if isinstance(run.heads, TalkHeads):
            losses |= run.heads.of_language(states, batch, run.step >= SEVERAL_FROM)
        else:
            losses |= run.heads.of_language(states, batch)
        losses |= {"answers": mean_loss(logits, batch), "scale": scale_loss(logits, batch)}
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


def held_out_talk(batcher: TalkBatcher) -> dict[str, list[tuple[Batch, Case]]]:
    """A batch for each case of each figure of conversations."""
    return {
        figure: [
            (batcher.batch([case.conversation]), case)
            for case in talk_cases(figure, _TALK_SEED, _TALK_CASES)
        ]
        for figure in TALK_FIGURES
    }


def train(run: Run, schedule: Schedule | TalkSchedule) -> None:
    """Train until the run has had all steps of its schedule."""
    if run.step >= schedule.steps:
        return
    tokenizer = build_tokenizer()
    held_out = held_out_batches(Batcher(tokenizer))
    talk = held_out_talk(TalkBatcher(tokenizer)) if run.talk else {}
    score_every = _SCORE_TALK_EVERY if run.talk else _SCORE_EVERY
    log = (run.folder / "log.jsonl").open("a", encoding="utf-8")
    started, turns, kept = time.monotonic() - run.seconds, 0, []
    for batch in stream(run.seed, run.step, schedule):
        share = schedule.rate_share(run.step)
        kept.append(train_step(run, batch, share))
        turns += len(batch.turns) if isinstance(batch, Batch) else 0
        run.seconds = time.monotonic() - started
        over = run.step >= schedule.steps
        line: dict[str, object] = {"step": run.step, "seconds": round(run.seconds, 1)}
        if run.step % _LOG_EVERY == 0:
            line |= {"rate": round(share, 4), "turns": turns} | _means(kept)
            turns, kept = 0, []
            _write(log, line)
        if run.step > schedule.tower and (run.step % score_every == 0 or over):
            accuracy = scores(run.average, held_out, tokenizer)
            _write(log, line | {"accuracy": accuracy | talk_scores(run.average, talk, tokenizer)})
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
    for phase, told in (
        ("tower", "of the tower alone"),
        ("both", "of the tower and the language model"),
        ("clips", "of both, with more clips"),
    ):
        parser.add_argument(
            f"--{phase}-steps",
            type=int,
            default=getattr(SCHEDULE, phase),
            help=f"steps {told} (default: %(default)s)",
        )
    parser.add_argument(
        "--start",
        type=Path,
        metavar="CHECKPOINT",
        help="begin a new run with these weights instead of random ones",
    )
    parser.add_argument(
        "--talk",
        action="store_true",
        help="train the language model of the run in --folder, which is over, on conversations",
    )
    parser.add_argument(
        "--talk-steps", type=int, default=TALK_SCHEDULE.steps, help="(default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=2, help="of the trainer (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and data (default: 0)")
    parser.add_argument(
        "--plain", action="store_true", help="compile nothing and compute in float32: slower"
    )
    parser.add_argument("--folder", type=Path, help="of the run")
    args = parser.parse_args(arguments)
    runtime.keep_freed_memory()
    torch.set_num_threads(args.threads)
    folder, start = args.folder or default_folder(), args.start
    if args.talk:
        folder, start = folder / "talk", start or folder / "checkpoint"
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder, args.seed, fast=not args.plain, talk=args.talk)
    try:
        if run.load():
            print(f"going on at step {run.step} in {folder}")
        else:
            print(f"starting in {folder}")
            if start:
                run.start_from(start)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        phases = Schedule(args.tower_steps, args.both_steps, args.clips_steps)
        train(run, TalkSchedule(args.talk_steps) if args.talk else phases)
    except KeyboardInterrupt:
        print(f"stopped at step {run.step}; the same command goes on from step {run.saved_step}")
        return 130
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    raise SystemExit(main())
