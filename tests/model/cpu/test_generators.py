"""Generators that go back, and whose they are in a runner."""

from types import SimpleNamespace

import pytest
import torch

from saccade.model.cpu.generators import RewindableGenerator, keep_generators

SEED = 5


def draw(generator):
    """What vLLM's sampler draws."""
    return torch.empty(1000).exponential_(generator=generator)


def seeded(kind=torch.Generator):
    generator = kind()
    generator.manual_seed(SEED)
    return generator


def test_it_draws_as_torchs_own():
    ours, theirs = seeded(RewindableGenerator), seeded()
    for _ in range(3):
        ours.keep()
        assert torch.equal(draw(ours), draw(theirs))


def test_it_goes_back_as_often_as_it_is_asked():
    generator = seeded(RewindableGenerator)
    draw(generator)
    generator.keep()
    expected = draw(generator)
    for _ in range(2):
        draw(generator)
        generator.set_offset(generator.get_offset() - 4)
        assert torch.equal(draw(generator), expected)
    # From what was kept last, not first.
    generator.keep()
    expected = draw(generator)
    generator.set_offset(generator.get_offset() - 4)
    assert torch.equal(draw(generator), expected)


def test_it_goes_nowhere_else():
    generator = seeded(RewindableGenerator)
    with pytest.raises(ValueError, match="kept"):
        generator.set_offset(-4)
    generator.keep()
    with pytest.raises(ValueError, match="kept"):
        generator.set_offset(0)


def test_a_runners_generators_are_replaced_once_in_their_state():
    before, unseeded = seeded(), SimpleNamespace(generator=None)
    draw(before)
    expected = draw(before.clone_state())
    request = SimpleNamespace(generator=before)
    batch = SimpleNamespace(generators={1: before}, req_ids=["unseeded", "seeded"])
    runner = SimpleNamespace(input_batch=batch, requests={"seeded": request, "unseeded": unseeded})
    keep_generators(runner)
    generator = batch.generators[1]
    assert isinstance(generator, RewindableGenerator)
    assert request.generator is generator
    assert unseeded.generator is None
    assert torch.equal(draw(generator), expected)
    generator.set_offset(generator.get_offset() - 4)
    keep_generators(runner)
    assert batch.generators[1] is request.generator is generator
    assert torch.equal(draw(generator), expected)
