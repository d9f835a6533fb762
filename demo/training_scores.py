"""Accuracy by task on held-out batches: each answer token given the right ones before it."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor

from saccade.demo.training_batch import Batch
from saccade.demo.training_model import TrainingModel


@torch.inference_mode()
def scores(
    model: TrainingModel, batches: Iterable[Batch], tokenizer: Tokenizer
) -> dict[str, float]:
    """Fraction of right answers by task.

    An answer is right when all its tokens are; boxes when every box has an IoU of at least 0.5
    with its own (``boxes_exact`` counts equal texts).
    """
    right: dict[str, list[float]] = defaultdict(list)
    for batch in batches:
        logits, _, _ = model(batch)
        said = logits.argmax(dim=1)
        for asked in batch.turns:
            span = slice(asked.start, asked.stop)
            exact = bool((said[span] == batch.answer_ids[span]).all())
            task = asked.turn.task
            if task == "boxes":
                right["boxes_exact"].append(exact)
                answer = tokenizer.decode(said[span].tolist())
                right[task].append(boxes_agree(answer, asked.turn.answer))
            else:
                right[task].append(exact)
    return {task: sum(values) / len(values) for task, values in sorted(right.items())}


def iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes (x1, y1, x2, y2)."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def boxes_of(answer: str) -> list[list[float]]:
    """The boxes that an answer names; none if it is not what Qwen2.5-VL writes."""
    try:
        found = [item["bbox_2d"] for item in json.loads(answer)]
    except (ValueError, TypeError, KeyError):
        return []
    if all(isinstance(box, list) and len(box) == 4 for box in found):
        return found
    return []


def boxes_agree(answer: str, expected: str, least: float = 0.5) -> bool:
    """Whether there are as many boxes as expected and each overlaps its own by ``least`` IoU."""
    said, right = boxes_of(answer), boxes_of(expected)
    return len(said) == len(right) and all(
        iou(one, other) >= least for one, other in zip(said, right, strict=True)
    )


def mean_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of the answers, where a long answer counts by the root of its length."""
    losses = torch.nn.functional.cross_entropy(logits, batch.answer_ids, reduction="none")
    return (losses * batch.answer_weights).sum() / batch.answer_weights.sum()
