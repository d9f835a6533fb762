"""Accuracy by task on held-out batches: each answer token given the right ones before it."""

from collections import defaultdict
from collections.abc import Iterable

import torch
from tokenizers import Tokenizer
from torch import Tensor

from saccade.demo.evaluation.cases import Case
from saccade.demo.training.batch import Batch
from saccade.demo.training.model.language import TrainingModel
from saccade.demo.world.answers import boxes_agree


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


def mean_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of the answers, where a long answer counts by the root of its length."""
    losses = torch.nn.functional.cross_entropy(logits, batch.answer_ids, reduction="none")
    return _mean(losses, batch)


def scale_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Mean square of the logarithm of the softmax's denominator, which cross-entropy leaves free.

    Near zero, the likeliest logits are near zero too, where bfloat16 is finest: near 20 it knows no
    step below 0.125, and many logits of an uncertain digit are equal.
    """
    return _mean(logits.logsumexp(dim=1) ** 2, batch)


def _mean(losses: Tensor, batch: Batch) -> Tensor:
    return (losses * batch.answer_weights).sum() / batch.answer_weights.sum()


@torch.inference_mode()
def talk_scores(
    model: TrainingModel, cases: dict[str, list[tuple[Batch, Case]]], tokenizer: Tokenizer
) -> dict[str, float]:
    """The mean score of each figure: each token of the last answer given the right ones before."""
    means = {}
    for figure, batches in cases.items():
        values = []
        for batch, case in batches:
            logits, _, _ = model(batch)
            said = case.conversation.said[-1]
            learned = len(tokenizer.encode(said.text).ids) + 1
            best, right = logits.argmax(dim=1), batch.answer_ids
            if said.given:
                values.append(float((best == right).all()))
            else:
                values.append(case.score(tokenizer.decode(best[-learned:].tolist())))
        means[figure] = round(sum(values) / len(values), 4)
    return means
