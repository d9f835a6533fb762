"""What comes over HTTP is what the reference says of the same picture and the same clip."""

import numpy as np
import pytest
import torch
from media_samples import as_url, avi, png, raster
from reference import Medium, Reference
from transformers import AutoTokenizer

from saccade.demo.checkpoints.checkpoint import random_checkpoint

QUESTION = "What is it?"
# The server computes in float32 here (conftest.py), as the reference does.
TOLERANCE = 0.01


@pytest.fixture(scope="module")
def reference():
    return Reference(random_checkpoint())


def expected(reference, medium, kind):
    """Log-probabilities of the first token after the chat that the server makes of it."""
    tokenizer = AutoTokenizer.from_pretrained(random_checkpoint())
    messages = [{"role": "user", "content": [{"type": kind}, {"type": "text", "text": QUESTION}]}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    place = ids.index(reference.placeholder(medium))
    logits = reference.logits([ids[:place], medium, ids[place + 1 :]], [])[0]
    return torch.log_softmax(logits, -1)


def first_token(client, kind, url):
    """The server's five likeliest first tokens: token -> log-probability."""
    content = [
        {"type": f"{kind}_url", f"{kind}_url": {"url": url}},
        {"type": "text", "text": QUESTION},
    ]
    answer = client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": content}],
        temperature=0,
        max_tokens=1,
        logprobs=True,
        top_logprobs=5,
        extra_body={"return_tokens_as_token_ids": True},
    )
    likeliest = answer.choices[0].logprobs.content[0].top_logprobs
    return {int(entry.token.removeprefix("token_id:")): entry.logprob for entry in likeliest}


def deviation(seen, truth):
    """The largest difference of their log-probabilities from the truth."""
    return max(abs(logprob - truth[token].item()) for token, logprob in seen.items())


def test_pictures(client, reference):
    truths, answers = [], []
    for seed, (height, width) in enumerate([(140, 196), (84, 84), (308, 112)]):
        medium = Medium(raster(seed, 1, height, width))
        truths.append(expected(reference, medium, "image"))
        answers.append(first_token(client, "image", as_url(png(medium.raster[0]), "image/png")))
    for own, answer in enumerate(answers):
        fits = [deviation(answer, truth) < TOLERANCE for truth in truths]
        assert fits == [other == own for other in range(len(truths))]


def test_clip(client, reference):
    """Lossless frames at 5 a second, of which the server samples 2 a second."""
    frames = raster(9, 20, 252, 448)
    url = as_url(avi(frames, 5), "video/x-msvideo")
    answer = first_token(client, "video", url)
    chosen = torch.linspace(0, 19, 8).round().long().numpy()
    clip = Medium(np.ascontiguousarray(frames[chosen]), 2 / (8 / 20 * 5))
    slower = Medium(clip.raster, 4 * clip.seconds_per_grid)
    truth, slower = (expected(reference, medium, "video") for medium in (clip, slower))
    assert deviation(answer, truth) < TOLERANCE < deviation(answer, slower)
