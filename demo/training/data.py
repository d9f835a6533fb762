"""Training batches: a pure function of seed and step, made in a process of their own."""

import multiprocessing
from collections.abc import Iterator
from multiprocessing.queues import Queue
from queue import Full

import numpy as np
import torch

from saccade.demo.checkpoints.tokenizer import build_tokenizer
from saccade.demo.conversations.draw import FORMS_FROM, kind_of, talk_conversations
from saccade.demo.training.batch import Batch, Batcher, TowerBatch, tower_batch
from saccade.demo.training.schedule import Schedule, TalkSchedule
from saccade.demo.training.talk_batch import TalkBatcher
from saccade.demo.world.examples import (
    MOST_CELLS,
    TRAINING_RATES,
    Example,
    clip_example,
    crowded_example,
    picture_example,
    picture_sizes,
    random_clip,
)

PICTURE_TASKS = ("colour_kind", "counting", "reading", "boxes", "points", "caption")
CLIP_TASKS = ("event_time", "order", "colour_kind", "caption")
_HELD_OUT_SEED = 2**31  # training seeds are far below
# Batches, one after another.
_CYCLE = ("pictures", "clips", "pictures", "pictures", "clips", "pictures", "crowded")
_CLIPS_CYCLE = ("clips", "pictures", "clips", "pictures", "clips", "crowded")
_CELLS_A_BATCH, _CLIP_CELLS_A_BATCH = 400, 900  # a video has fewer questions a cell
_RATE_SHARES = (1 / np.array(TRAINING_RATES)) / (1 / np.array(TRAINING_RATES)).sum()
_MOST_EXAMPLES = 16
_RAMP = 1500  # steps until images have their full size and number of things
_AHEAD = 6  # batches made in advance
_PATIENCE = 30  # seconds until a full queue makes the process ask whether anyone still reads


def tower_examples(seed: int, step: int) -> list[Example]:
    """The examples of one step of the tower alone: as much to see as fits, nothing asked."""
    rng = np.random.default_rng([seed, step, 0])
    if step % len(_CYCLE) == 1:
        return _clips(rng, 0.0)[:4]
    return _crowded(rng)


def _crowded(rng: np.random.Generator) -> list[Example]:
    sizes = picture_sizes(MOST_CELLS)
    examples, cells = [], 0
    while cells < _CELLS_A_BATCH:
        columns, rows = sizes[rng.integers(len(sizes))]
        examples.append(crowded_example(rng, (columns, rows)))
        cells += columns * rows
    return examples


def training_examples(seed: int, step: int, more_clips: bool = False) -> list[Example]:
    """The examples of one step of both: small and few things at first.

    Args:
        step: counts from the first of both. In some steps nothing is asked: letters take the tower
            longest, and crowded images have many more.
        more_clips: half of the batches instead of two in seven.
    """
    rng = np.random.default_rng([seed, step, 1])
    progress = min(1.0, step / _RAMP)
    cycle = _CLIPS_CYCLE if more_clips else _CYCLE
    kind = cycle[step % len(cycle)]
    if kind == "clips":
        return _clips(rng, progress)
    return _crowded(rng) if kind == "crowded" else _pictures(rng, progress)


def _pictures(rng: np.random.Generator, progress: float) -> list[Example]:
    sizes = picture_sizes(round(16 + (MOST_CELLS - 16) * progress))
    most_things = 2 + round(3 * progress)
    most_turns = int(rng.integers(3, 7))  # one number for the batch keeps padding short
    size = sizes[rng.integers(len(sizes))]
    count = min(_MOST_EXAMPLES, max(4, _CELLS_A_BATCH // (size[0] * size[1])))
    examples = []
    for _ in range(count):
        tasks = list(PICTURE_TASKS)
        if rng.random() < 0.7:  # captions are long
            tasks.remove("caption")
        if rng.random() < 0.5:  # and a point has nothing that a box does not have
            tasks.remove("points")
        text = bool(rng.random() < 0.6)
        things = int(rng.integers(0 if text else 1, most_things + 1))
        examples.append(picture_example(rng, size, things, tasks, most_turns, text))
    return examples


def _clips(rng: np.random.Generator, progress: float) -> list[Example]:
    # High rates cost most and teach no more: they are drawn as seldom as they are high.
    fps = float(rng.choice(TRAINING_RATES, p=_RATE_SHARES))
    seconds = 2 * int(rng.integers(2, 4 + round(2 * progress)))
    most_cells = 12 + round(12 * progress)
    cells_a_clip = (12 + most_cells) / 2 * seconds * fps / 2
    count = int(min(_MOST_EXAMPLES, max(2, _CLIP_CELLS_A_BATCH // cells_a_clip)))
    examples = []
    for _ in range(count):
        tasks = list(CLIP_TASKS)
        if rng.random() < 0.7:
            tasks.remove("caption")
        clip = random_clip(rng, most_cells, seconds, early=bool(rng.random() < 0.5))
        examples.append(clip_example(rng, clip, fps, tasks, 4))
    return examples


def held_out_examples(kind: str, count: int, seed: int = _HELD_OUT_SEED) -> list[Example]:
    """Images or videos of full difficulty that training never draws."""
    rng = np.random.default_rng([seed, ("pictures", "clips").index(kind)])
    sizes = picture_sizes(MOST_CELLS)
    examples: list[Example] = []
    for index in range(count):
        if kind == "pictures":
            size, text = sizes[rng.integers(len(sizes))], index % 2 == 0
            examples.append(
                picture_example(rng, size, int(rng.integers(1, 6)), PICTURE_TASKS, 6, text)
            )
        else:
            clip = random_clip(rng, 20, 2 * int(rng.integers(2, 6)), early=False)
            fps = TRAINING_RATES[index % len(TRAINING_RATES)]
            examples.append(clip_example(rng, clip, fps, CLIP_TASKS, 4))
    return examples


def stream(seed: int, first_step: int, schedule: Schedule | TalkSchedule) -> Iterator[TowerBatch]:
    """Batches from ``first_step`` on, without end, from a process that works ahead."""
    context = multiprocessing.get_context("spawn")
    queue: Queue[TowerBatch] = context.Queue(_AHEAD)
    process = context.Process(
        target=_produce, args=(queue, seed, first_step, schedule), daemon=True
    )
    process.start()
    try:
        while True:
            yield queue.get()
    finally:
        process.terminate()
        process.join()


def _talk_batch(batcher: Batcher, talk: TalkBatcher, seed: int, step: int) -> Batch:
    kind = kind_of(step)
    if kind not in ("questions", "clip questions"):
        return talk.batch(talk_conversations(seed, step), punctuation=step >= FORMS_FROM)
    rng = np.random.default_rng([seed, step, 2])
    while True:
        examples = _clips(rng, 1.0) if kind == "clip questions" else _pictures(rng, 1.0)
        asked = [example for example in examples if example.turns]
        if asked:
            return batcher.batch(asked, 0.2, step, moments=True)


def _batch(batcher: Batcher, seed: int, step: int, schedule: Schedule) -> TowerBatch:
    if step < schedule.tower:
        return tower_batch(tower_examples(seed, step))
    of_clips = schedule.is_about_clips(step)
    examples = training_examples(seed, step - schedule.tower, of_clips)
    asked = [example for example in examples if example.turns]
    return batcher.batch(asked, 0.2, step, of_clips) if asked else tower_batch(examples)


def _produce(
    queue: "Queue[TowerBatch]", seed: int, step: int, schedule: Schedule | TalkSchedule
) -> None:
    torch.set_num_threads(1)
    tokenizer = build_tokenizer()
    batcher, talk = Batcher(tokenizer), TalkBatcher(tokenizer)
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs as a child"
    while True:
        if isinstance(schedule, TalkSchedule):
            batch: TowerBatch = _talk_batch(batcher, talk, seed, step)
        else:
            batch = _batch(batcher, seed, step, schedule)
        while True:
            try:
                queue.put(batch, timeout=_PATIENCE)
                break
            except Full:
                if not parent.is_alive():  # it was killed and could not stop this process
                    return
        step += 1
