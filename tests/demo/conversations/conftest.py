"""Batches of conversations, and the models that read them."""

from collections.abc import Callable

import pytest
import torch

from saccade.demo.checkpoints.tokenizer import build_tokenizer
from saccade.demo.conversations.draw import (
    FORMS_FROM,
    kind_of,
)
from saccade.demo.training.model.language import TrainingModel
from saccade.demo.training.state import SPEC, export_checkpoint
from saccade.demo.training.talk_batch import TalkBatcher

_STEPS: dict[str, list[int]] = {}
for step in range(FORMS_FROM + 100):
    _STEPS.setdefault(kind_of(step), []).append(step)


@pytest.fixture(scope="session")
def batcher() -> TalkBatcher:
    return TalkBatcher(build_tokenizer())


@pytest.fixture(scope="session")
def model() -> TrainingModel:
    return TrainingModel(SPEC)


@pytest.fixture(scope="session")
def folder(model, tmp_path_factory):
    target = tmp_path_factory.mktemp("checkpoint")
    return export_checkpoint(model.state_dict(), target, torch.float32)


@pytest.fixture(scope="session")
def step_of() -> Callable[..., int]:
    """The first step of a kind, or a later one."""
    return lambda kind, number=0: _STEPS[kind][number]
