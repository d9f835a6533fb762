"""Our model on vLLM's model runner V2, which CUDA has, equals our model on V1, which CPUs have.

V2's Triton kernels are run by Triton's interpreter. What CUDA alone has (streams, pinned memory,
captured graphs) is not run here; `docs/gpu.md` lists it.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import runner_answers
import torch
from child_path import SUPPORT_PATH
from runner_requests import (
    BY_GRAPH,
    GROUPS,
    LONG,
    ON_V2,
    SCHEMA,
    STEP,
    TOKENS,
    Request,
    vision_start,
)

from saccade.model.positions import MediumPosition, mrope_positions

# V1 and V2 batch differently, and sums in float32 are rounded as they are batched.
TOLERANCE = 2e-3
TOKENS_PER_SECOND = 2
V2 = ("plain", "pieces")
GREEDY = ("small", "mixed", "first", "again", "cold", "crowded")


@pytest.fixture(scope="module")
def runs(starts_engine: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `runner_answers` found, by runner, and its log under ``"log"``."""
    folder = tmp_path_factory.mktemp("runners")

    def run(runner: str) -> dict[str, Any]:
        # Side by side, a core each.
        environment = {
            **os.environ,
            "VLLM_LOGGING_LEVEL": "INFO",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": SUPPORT_PATH,
        }
        environment.pop("VLLM_USE_V2_MODEL_RUNNER", None)
        if runner == "v2":
            environment["TRITON_INTERPRET"] = "1"
        out = folder / f"{runner}.json"
        done = subprocess.run(
            [sys.executable, runner_answers.__file__, str(out), runner],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        return json.loads(out.read_text()) | {"log": done.stdout}

    with ThreadPoolExecutor() as pool:
        return dict(zip(("v1", "v2"), pool.map(run, ("v1", "v2")), strict=True))


def test_each_engine_ran_on_its_runner(runs: dict[str, Any]) -> None:
    assert "Using V2 Model Runner" in runs["v2"]["log"]
    assert "Using V2 Model Runner" not in runs["v1"]["log"]
    assert runs["v1"]["runners"] == ["vllm.v1.worker.cpu_model_runner"]
    assert runs["v2"]["runners"] == ["vllm.v1.worker.cpu.model_runner"] * 2
    assert runs["v2"]["asynchronous"]
    assert " ERROR " not in runs["v2"]["log"]


def by_token(entry: list[list[Any]]) -> dict[int, float]:
    """Log-probabilities by token, of one place."""
    return {int(token): logprob for token, logprob in entry}


def check_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same tokens with the same log-probabilities, up to where two tokens tie."""
    assert found["prompt"] == expected["prompt"]
    for ours, theirs in zip(found["answers"], expected["answers"], strict=True):
        places = zip(ours["tokens"], theirs["tokens"], strict=False)
        for place, (token, other) in enumerate(places):
            mine, its = (by_token(one["logprobs"][place]) for one in (ours, theirs))
            assert abs(mine[token] - its.get(token, -np.inf)) <= TOLERANCE, place
            if token != other:
                assert abs(its[token] - its[other]) <= TOLERANCE, place
                break  # a tie: what follows hangs on it
        else:
            assert len(ours["tokens"]) == len(theirs["tokens"])


@pytest.mark.parametrize(
    ("way", "group"),
    [(way, group) for way in V2 for group in GREEDY] + [("graphs", group) for group in BY_GRAPH],
)
def test_answers_equal_those_of_v1(runs: dict[str, Any], way: str, group: str) -> None:
    expected = runs["v1"]["plain"][group]["answers"]
    found = runs["v2"][way][group]["answers"]
    for ours, theirs in zip(found, expected, strict=True):
        check_equal(ours, theirs)


def media_positions(
    request: Request, prompt: list[int], rounded: torch.dtype = torch.float64
) -> list[MediumPosition]:
    """Where the media of a request stand in its prompt: after each start of vision, in order."""
    start = vision_start()
    offsets = [place + 1 for place, token in enumerate(prompt) if token == start]
    media = []
    for offset, medium in zip(offsets, request.media, strict=True):
        seconds = medium.seconds_per_grid
        if seconds is not None:
            seconds = torch.tensor(seconds, dtype=torch.float64).to(rounded).item()
        media.append(MediumPosition(offset, medium.grid, seconds))
    return media


def truth(request: Request, length: int, prompt: list[int], **options: Any) -> np.ndarray:
    return mrope_positions(length, media_positions(request, prompt, **options), TOKENS_PER_SECOND)[
        0
    ]


@pytest.mark.parametrize("group", ON_V2)
@pytest.mark.parametrize("way", V2)
def test_positions(runs: dict[str, Any], way: str, group: str) -> None:
    """What the model is given in each step, of prompts and of answers, in float64's seconds."""
    found = runs["v2"][way][group]
    for request, answer, steps in zip(ON_V2[group], found["answers"], found["steps"], strict=True):
        assert steps
        if len(answer["answers"]) == 1:  # several are several requests
            assert steps[0][0] == answer["cached"]
        length = max(start + len(positions[0]) for start, positions in steps)
        # All but the last token of an answer is computed.
        assert length >= len(answer["prompt"]) + len(answer["answers"][0]["tokens"]) - 1
        expected = truth(request, length, answer["prompt"])
        for start, positions in steps:
            stop = start + len(positions[0])
            np.testing.assert_array_equal(positions, expected[:, start:stop])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounded_seconds_would_be_noticed(runs: dict[str, Any], dtype: torch.dtype) -> None:
    """Of every video longer than three grids, one position at least."""
    for name, group in GROUPS.items():
        answers = runs["v1"]["plain"][name]["answers"]
        for request, answer in zip(group, answers, strict=True):
            if all(medium.grid[0] <= 3 for medium in request.media):
                continue
            prompt = answer["prompt"]
            exact, rounded = (
                truth(request, len(prompt), prompt, rounded=one) for one in (torch.float64, dtype)
            )
            assert (exact != rounded).any(), (name, request)


def computed_from(steps: list[Any]) -> list[int]:
    return [start for start, _ in steps]


@pytest.mark.parametrize("way", V2)
def test_a_video_spans_steps(runs: dict[str, Any], way: str) -> None:
    (place,) = (place for place, one in enumerate(GROUPS["mixed"]) if LONG in one.parts)
    found = runs["v2"][way]["mixed"]
    (video,) = media_positions(GROUPS["mixed"][place], found["answers"][place]["prompt"])
    end = video.offset + np.prod(video.grid)
    inside = [start for start in computed_from(found["steps"][place]) if video.offset < start < end]
    assert len(inside) >= 1
    assert np.prod(video.grid) > STEP


@pytest.mark.parametrize("group", ["again", "cold"])
@pytest.mark.parametrize("way", V2)
def test_a_cached_prefix_ends_within_a_video(runs: dict[str, Any], way: str, group: str) -> None:
    found = runs["v2"][way][group]
    (answer,), (steps,) = found["answers"], found["steps"]
    (video,) = media_positions(GROUPS[group][0], answer["prompt"])
    assert video.offset < steps[0][0] == answer["cached"] < video.offset + np.prod(video.grid)
    # What is encoded again is the video, or its last piece.
    assert found["encoded"] == ([["video"]] if group == "cold" else [])


@pytest.mark.parametrize("way", V2)
def test_preempted_requests_went_on(runs: dict[str, Any], way: str) -> None:
    found = runs["v2"][way]["crowded"]
    assert found["preemptions"] > 0
    resumed = 0
    for request, answer, steps in zip(
        GROUPS["crowded"], found["answers"], found["steps"], strict=True
    ):
        image = media_positions(request, answer["prompt"])[-1]
        for (before, _), (start, positions) in pairwise(steps):
            # In the middle of its answer it begins again, where its media have not ended.
            resumed += (
                before > len(answer["prompt"])
                and start < image.offset + np.prod(image.grid)
                and start + len(positions[0]) > before
            )
    assert resumed > 0


def test_media_of_several_requests_were_encoded_together(runs: dict[str, Any]) -> None:
    """Images and videos in the order of the prompts: V2 sorts them, and must hand them back so."""
    calls = runs["v2"]["plain"]["small"]["encoded"]
    assert ["image", "video", "image", "video", "image", "video", "image"] in calls
    pieces = runs["v2"]["pieces"]["mixed"]["encoded"]
    assert sum(call.count("video") for call in pieces) > 4  # that many videos there are


@pytest.mark.parametrize("way", V2)
def test_sampling(runs: dict[str, Any], way: str) -> None:
    expected = runs["v1"]["plain"]["sampled"]["answers"]
    found = runs["v2"][way]["sampled"]["answers"]
    for ours, theirs in zip(found, expected, strict=True):
        check_equal(ours, theirs)
    punished, ruled, only_best, scored = found
    tokens = only_best["answers"][0]["tokens"]
    assert punished["answers"][0]["tokens"][: len(tokens)] != tokens
    assert json.loads(ruled["answers"][0]["text"]) in SCHEMA["enum"]
    prompt = zip(scored["prompt logprobs"], expected[3]["prompt logprobs"], strict=True)
    assert next(prompt) == (None, None)
    for token, (ours, theirs) in zip(scored["prompt"][1:], prompt, strict=True):
        assert abs(by_token(ours)[token] - by_token(theirs)[token]) <= TOLERANCE


@pytest.mark.parametrize("way", V2)
def test_seeds(runs: dict[str, Any], way: str) -> None:
    """Random numbers are not V1's: what a seed gives beside others is what it gives alone."""
    first, _, other = runs["v2"][way]["seeded"]["answers"]
    (alone,) = runs["v2"][way]["seeded alone"]["answers"]
    tokens = [one["tokens"] for one in first["answers"]]
    assert tokens == [one["tokens"] for one in alone["answers"]]
    assert len({tuple(one) for one in [*tokens, other["answers"][0]["tokens"]]}) == 3


def test_the_worker_samples_as_soon_as_it_has_computed(runs: dict[str, Any]) -> None:
    """But for steps with a grammar, after which the engine asks for samples."""
    (steps, asked), (_, asked_later) = runs["v2"]["counts"]
    assert steps > TOKENS
    assert asked == 0
    assert asked_later > 0


def test_memory_is_profiled_with_the_largest_media(runs: dict[str, Any]) -> None:
    # An image of all the tokens that a prompt may have.
    assert runs["v2"]["profiled"] == [["image"]]


def test_the_tower_was_replayed(runs: dict[str, Any]) -> None:
    """By the call of V2's encoder runner: all media but the video that fits no budget."""
    media = {medium for name in BY_GRAPH for one in GROUPS[name] for medium in one.media}
    assert runs["v2"]["by graph"] == len(media) - 1
