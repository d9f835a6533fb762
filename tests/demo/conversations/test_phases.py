"""Training on conversations: what each phase learns, and how fast."""

import json

import pytest
import torch

from saccade.demo import train
from saccade.demo.conversations.draw import (
    COPIES_FROM,
    COPIES_UNTIL,
    FORMS_FROM,
    REVIEW_FROM,
    SEVERAL_FROM,
    kind_of,
    talk_conversations,
)
from saccade.demo.evaluation.talk_cases import TALK_FIGURES
from saccade.demo.training.model.heads import TalkHeads
from saccade.demo.training.model.language import TrainingModel
from saccade.demo.training.schedule import TalkSchedule
from saccade.demo.training.state import SPEC, TALK_SPEC, Run


def test_a_model_that_has_grown_says_what_it_said_before(tmp_path, batcher):
    first = Run(tmp_path / "first", seed=1)
    checkpoint = first.export()
    small = TrainingModel(SPEC)
    grown = Run(tmp_path / "talk", seed=2, talk=True)
    grown.start_from(checkpoint)
    small.load_state_dict({k: v.bfloat16().float() for k, v in first.average.state_dict().items()})
    batch = batcher.batch(talk_conversations(1, 1)[:3])
    with torch.no_grad():
        torch.testing.assert_close(grown.model(batch)[0], small(batch)[0])
    frozen = [name for name, p in grown.model.named_parameters() if not p.requires_grad]
    assert frozen
    assert all(name.startswith("visual.") for name in frozen)
    before = {name: weight.clone() for name, weight in grown.model.state_dict().items()}
    losses = [train.train_step(grown, batch, 1.0)["answers"] for _ in range(3)]
    assert losses[-1] < losses[0]
    changed = {
        name for name, w in grown.model.state_dict().items() if not torch.equal(w, before[name])
    }
    assert changed
    assert not any(name.startswith("visual.") for name in changed)
    config = json.loads((grown.export() / "config.json").read_text())
    assert config["num_hidden_layers"] == TALK_SPEC.language.layers


def test_the_command_trains_conversations(tmp_path, monkeypatch, folder):
    monkeypatch.setattr(train, "_HELD_OUT", {"pictures": 2, "clips": 2})
    monkeypatch.setattr(train, "_TALK_CASES", 1)
    flags = ["--talk", "--talk-steps", "2", "--plain", "--threads", "1", "--start", str(folder)]
    assert train.main([*flags, "--folder", str(tmp_path)]) == 0
    talk = tmp_path / "talk"
    lines = [json.loads(line) for line in (talk / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 2
    assert set(TALK_FIGURES) <= set(lines[-1]["accuracy"])
    weights = talk / "checkpoint" / "model.safetensors"
    assert weights.stat().st_size < 20e6
    made = weights.stat().st_mtime_ns
    assert train.main([*flags, "--folder", str(tmp_path)]) == 0
    assert weights.stat().st_mtime_ns == made, "what is over is not trained again"


def test_the_learning_rate_of_conversations_warms_up_and_falls_in_each_phase():
    schedule = TalkSchedule(FORMS_FROM + 1000)
    begun = (0, 2000, COPIES_FROM, COPIES_UNTIL, REVIEW_FROM, SEVERAL_FROM, FORMS_FROM)
    rates = [schedule.rate_share(step) for step in begun]
    assert rates == pytest.approx([0.003, 0.15, 0.25, 0.2, 0.18, 0.15, 0.1])
    ends = (REVIEW_FROM, SEVERAL_FROM, FORMS_FROM, schedule.steps)
    over = [schedule.rate_share(step - 1) for step in ends]
    assert over == pytest.approx([0.1413, 0.0919, 0.003, 0.002], abs=1e-4)
    assert schedule.rate_share(FORMS_FROM + 500) == pytest.approx(0.05)


def test_copies_are_most_steps_for_a_while_and_some_later():
    kinds = {"repeats", "keys", "calls"}
    shares = [
        sum(kind_of(step) in kinds for step in range(start, start + 100)) / 100
        for start in (0, COPIES_FROM - 100, COPIES_FROM, COPIES_UNTIL, REVIEW_FROM, SEVERAL_FROM)
    ]
    assert shares == [0, 0, 0.8, 0.4, 0.2, 0.2]


def test_the_numbers_of_images_are_learned_from_their_phase_on(batcher, step_of):
    batch = batcher.batch(talk_conversations(3, step_of("several", 0)))
    heads = TalkHeads(SPEC.language.hidden, 2, 3, 4, 5)
    states = TrainingModel(TALK_SPEC)(batch)[2]
    before, after = (heads.of_language(states, batch, numbered) for numbered in (False, True))
    assert after.keys() - before.keys() == {"number", "number asked"}
    assert all(after[name].requires_grad for name in after)
