"""The training model is Qwen2.5-VL; its batches ask what a server would be asked."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import Medium, Reference
from transformers import AutoTokenizer

from saccade.demo import train
from saccade.demo.checkpoints.tokenizer import build_tokenizer
from saccade.demo.train import train_step
from saccade.demo.training.batch import BEFORE_MEDIUM, Batch, Batcher
from saccade.demo.training.data import held_out_examples, training_examples
from saccade.demo.training.model.language import TrainingModel
from saccade.demo.training.schedule import Schedule
from saccade.demo.training.scores import scores
from saccade.demo.training.state import SPEC, Run, export_checkpoint
from saccade.demo.world.answers import boxes_agree, iou, seconds_of
from saccade.demo.world.questions import TASKS, Seen, SeenText, picture_turns


@pytest.fixture(scope="module")
def examples():
    both = [*held_out_examples("pictures", 3), *held_out_examples("clips", 3)]
    return [example for example in both if example.turns]


@pytest.fixture(scope="module")
def batcher() -> Batcher:
    return Batcher(build_tokenizer())


@pytest.fixture(scope="module")
def model() -> TrainingModel:
    model = TrainingModel(SPEC)
    generator = torch.Generator().manual_seed(1)
    for (
        parameter
    ) in model.parameters():  # at first norms are one and biases nought: tell them apart
        if parameter.dim() == 1:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture(scope="module")
def folder(model: TrainingModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("checkpoint")
    return export_checkpoint(model.state_dict(), target, torch.float32)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return Reference(folder)


def test_the_tower_equals_transformers(model, batcher, examples, reference):
    batch = batcher.batch(examples)
    with torch.no_grad():
        cells = model.visual(batch.tower)
    media = [Medium(example.raster, example.seconds_per_grid) for example in examples]
    torch.testing.assert_close(cells, reference.tower(media), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("number", [0, 3])  # a picture, a clip
def test_a_branch_equals_a_conversation_of_its_own(number, model, batcher, examples, reference):
    batch = batcher.batch(examples)
    example = examples[number]
    with torch.no_grad():
        logits, _, _ = model(batch)
    first = sum(len(earlier.turns) for earlier in examples[:number])
    for turn, asked in zip(example.turns, batch.turns[first:], strict=False):
        assert asked.turn is turn
        question = f"<|vision_end|>{turn.question}<|im_end|>\n<|im_start|>assistant\n"
        pieces = [
            batcher.encode(BEFORE_MEDIUM).ids,
            Medium(example.raster, example.seconds_per_grid),
            batcher.encode(question).ids,
        ]
        expected = reference.logits(pieces, batcher.encode(turn.answer).ids)
        torch.testing.assert_close(logits[asked.start : asked.stop], expected, atol=1e-4, rtol=1e-4)


def test_two_questions_make_a_conversation(model, batcher, examples, reference):
    example = examples[0]
    batch = batcher.batch([example], pairs=1.0)
    with torch.no_grad():
        logits, _, _ = model(batch)
    one, two = example.turns[:2]
    chat = (
        f"<|vision_end|>{one.question}<|im_end|>\n<|im_start|>assistant\n{one.answer}<|im_end|>\n"
        f"<|im_start|>user\n{two.question}<|im_end|>\n<|im_start|>assistant\n"
    )
    medium = Medium(example.raster, example.seconds_per_grid)
    pieces = [batcher.encode(BEFORE_MEDIUM).ids, medium, batcher.encode(chat).ids]
    expected = reference.logits(pieces, batcher.encode(two.answer).ids)
    asked = batch.turns[1]
    torch.testing.assert_close(logits[asked.start : asked.stop], expected, atol=1e-4, rtol=1e-4)


def test_the_prompt_is_that_of_the_chat_template(folder, batcher, examples):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turn = examples[0].turns[0]
    content = [{"type": "image"}, {"type": "text", "text": turn.question}]
    chat = [{"role": "user", "content": content}, {"role": "assistant", "content": turn.answer}]
    prompt = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False)
    examples[0].turns, kept = [turn], examples[0].turns
    try:
        ids = batcher.batch([examples[0]]).token_ids[0].tolist()
    finally:
        examples[0].turns = kept
    pad = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    first, count = ids.index(pad), ids.count(pad)
    assert ids[: first + 1] + ids[first + count :] == prompt[: len(ids) - count + 1]


def test_the_answer_tokens_are_the_answers(batcher, examples):
    batch = batcher.batch(examples)
    decoded = [
        build_tokenizer().decode(batch.answer_ids[asked.start : asked.stop].tolist())
        for asked in batch.turns
    ]
    assert decoded == [turn.answer for example in examples for turn in example.turns]
    before = batch.token_ids.flatten()[batch.answer_places + 1]
    assert torch.equal(before, batch.answer_ids)


def test_every_token_of_an_answer_has_what_it_is_about(batcher, examples):
    numbers = SeenText("407", ((10, 5, 20, 15), (24, 5, 34, 15), (38, 5, 48, 15)))
    stars = [Seen("star", "red", (1, 2, 30, 31)), Seen("star", "blue", (40, 50, 90, 91))]
    rng = np.random.default_rng(0)
    (read,) = picture_turns(rng, [], numbers, "reading")
    (both,) = (t for t in picture_turns(rng, stars, None, "boxes") if "all" in t.question)
    batch = batcher.batch([dataclasses.replace(examples[0], turns=[read, both])])
    boxes = (batch.asked.values[:, :4] * 28).tolist()
    assert boxes[:3] == [pytest.approx(box) for box in numbers.characters]
    assert not batch.asked.known[3].any(), "the end of the turn is about nothing"
    tokens = [build_tokenizer().decode([number]) for number in batch.answer_ids.tolist()]
    comma = tokens.index(",", tokens.index('"}'))  # between the two things
    assert boxes[4:comma] == [pytest.approx(stars[0].box)] * (comma - 4)
    assert boxes[comma:-1] == [pytest.approx(stars[1].box)] * (len(boxes) - 1 - comma)
    assert batch.asked.known[4:-1, :4].all()
    assert not batch.asked.known[:, 4].any(), "nothing is about a second"


def _equal(one: Batch, other: Batch) -> bool:
    return torch.equal(one.tower.patches, other.tower.patches) and torch.equal(
        one.token_ids, other.token_ids
    )


def test_a_step_has_the_same_examples_every_time(batcher):
    first, again, other = (batcher.batch(training_examples(7, step)) for step in (5, 5, 8))
    assert _equal(first, again)
    assert first.token_ids.shape != other.token_ids.shape or not _equal(first, other)


def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path, batcher):
    batches = [batcher.batch(training_examples(1, step)[:3]) for step in range(3)]
    straight = Run(tmp_path / "straight", seed=1)
    losses = [train_step(straight, batch, 1.0) for batch in batches]
    assert losses[0].keys() >= {"answers", "kind", "box", "place", "text", "asked"}
    stopped = Run(tmp_path / "stopped", seed=1)
    for batch in batches[:2]:
        train_step(stopped, batch, 1.0)
    stopped.save()
    resumed = Run(tmp_path / "stopped", seed=1)
    assert resumed.load()
    assert resumed.step == 2
    train_step(resumed, batches[2], 1.0)
    for name, weight in straight.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name
    with pytest.raises(ValueError, match="seed"):
        Run(tmp_path / "stopped", seed=2).load()


def test_a_run_can_begin_with_the_weights_of_another(tmp_path: Path, batcher):
    first = Run(tmp_path / "first", seed=1)
    train_step(first, batcher.batch(training_examples(1, 0)[:2]), 1.0)
    checkpoint = first.export()
    second = Run(tmp_path / "second", seed=2)
    second.start_from(checkpoint)
    assert second.step == 0
    for name, weight in first.average.state_dict().items():
        rounded = weight.bfloat16().float()
        assert torch.equal(second.model.state_dict()[name], rounded)
        assert torch.equal(second.average.state_dict()[name], rounded)


def test_a_few_steps_on_one_batch_lower_its_loss(tmp_path: Path, batcher):
    run = Run(tmp_path, seed=0)
    batch = batcher.batch(training_examples(0, 0)[:4])
    losses = [train_step(run, batch, 1.0)["answers"] for _ in range(12)]
    assert losses[-1] < 0.6 * losses[0]


def test_scores_are_fractions_by_task(model, batcher, examples):
    result = scores(model, [batcher.batch(examples)], build_tokenizer())
    assert {"boxes", "event_time"} <= result.keys()
    assert all(0 <= value <= 1 for value in result.values())


def test_boxes_agree_by_overlap():
    assert iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    one = '[{"bbox_2d": [0, 0, 10, 10], "label": "red star"}]'
    assert boxes_agree('[{"bbox_2d": [0, 0, 10, 6], "label": "x"}]', one)
    assert not boxes_agree('[{"bbox_2d": [0, 0, 10, 4], "label": "x"}]', one)
    assert not boxes_agree("a red star", one)
    assert not boxes_agree("[]", one)


def test_the_learning_rate_warms_up_and_falls_in_each_phase():
    schedule = Schedule(tower=500, both=4000, clips=1000)
    steps = (0, 400, 500, 1500, 2500, 4499, 4500, 5000, 5499)
    rates = [schedule.rate_share(step) for step in steps]
    assert rates == pytest.approx([0.01, 1, 0.003, 0.225, 0.15, 0.006, 0.0015, 0.075, 0.003])
    assert [schedule.is_about_clips(step) for step in (0, 4499, 4500)] == [False, False, True]


def test_questions_name_the_moments_of_their_events(batcher):
    examples = [example for example in held_out_examples("clips", 12) if example.turns]
    batch = batcher.batch(examples, pairs=0.5, moments=True)
    named = [asked.turn for asked in batch.turns for _ in asked.turn.moments]
    assert {turn.task for turn in named} == {"event_time", "order"}
    seconds = batch.asked.moments.tolist()
    for turn, place, second in zip(named, batch.asked.named.tolist(), seconds, strict=True):
        sample, column = divmod(place, batch.token_ids.shape[1])
        until = build_tokenizer().decode(batch.token_ids[sample, column - 4 : column + 1].tolist())
        if turn.task == "event_time":
            assert turn.question.endswith(f"{until}?")
            assert seconds_of(turn.answer) == second
        else:
            assert f"{until} or " in turn.question or turn.question.endswith(f"{until}?")
            first = min(second for _, second in turn.moments)
            assert until.endswith(turn.answer[-len(until) :]) == (second == first)
    assert not len(batcher.batch(examples).asked.named)


def test_the_command_trains_logs_and_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(train, "_HELD_OUT", {"pictures": 2, "clips": 2})
    steps = ["--tower-steps", "1", "--both-steps", "1", "--clips-steps", "1"]
    assert train.main([*steps, "--plain", "--threads", "1", "--folder", str(tmp_path)]) == 0
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 3
    assert set(lines[-1]["accuracy"]) <= {*TASKS, "boxes_exact"}
    assert (tmp_path / "state.pt").exists()
    size = (tmp_path / "checkpoint" / "model.safetensors").stat().st_size
    assert size < 16e6
    AutoTokenizer.from_pretrained(tmp_path / "checkpoint")
