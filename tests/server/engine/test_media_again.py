"""Media that are asked about again, on a real engine: not decoded, and the same otherwise."""

import re

import httpx
import pytest

CLIP = {"fps": 2.0, "resized_width": 140, "resized_height": 84}


def body(*parts: dict, **more: object) -> dict:
    content = [*parts, {"type": "text", "text": "Go on"}]
    messages = [{"role": "user", "content": content}]
    return {"model": "demo", "max_tokens": 12, "temperature": 0, "messages": messages, **more}


@pytest.fixture
def parts(image_url, clip_url) -> list[dict]:
    image = {"type": "image_url", "image_url": {"url": image_url(196, 140, "purple")}}
    return [image, {"type": "video_url", "video_url": {"url": clip_url}, **CLIP}]


def answered(server, request: dict) -> dict:
    answer = server.post(request)
    assert answer.status_code == 200, answer.text
    return answer.json()


def decoded(server) -> int:
    """How many media have been decoded."""
    metrics = httpx.get(server.url + "/metrics").text
    count = re.search(r'saccade_media_stage_seconds_count\{stage="decode"\} (\S+)', metrics)
    return int(float(count[1])) if count else 0


def test_the_second_question_decodes_nothing_and_says_the_same(server, parts):
    request = body(*parts, vision={"report": True}, logprobs=True)
    first = answered(server, request)
    before, known = decoded(server), server.metrics()["saccade_media_cached_total"]
    again = answered(server, request)
    assert decoded(server) == before
    assert server.metrics()["saccade_media_cached_total"] == known + 2
    for name in ("choices", "vision"):
        assert again[name] == first[name]
    assert again["usage"]["prompt_tokens"] == first["usage"]["prompt_tokens"]
    # The same pixels, asked for in another size, are others.
    larger = [{**parts[0], "resized_width": 280, "resized_height": 196}, parts[1]]
    answered(server, body(*larger, n=2, temperature=1.0))
    assert decoded(server) == before + 1
    server.wait_until_idle()


@pytest.mark.parametrize(
    "refused", [{"logit_bias": {"999999": 1}}, {"structured_outputs": {"regex": "(?=a)b"}}]
)
def test_a_refused_request_leaves_its_media_as_they_were(server, image_url, refused):
    """vLLM refuses these when it has the media on its list, and the engine does not yet."""
    url = image_url(84, 112, "orange" if "logit_bias" in refused else "brown")
    part = {"type": "image_url", "image_url": {"url": url}}
    assert server.post(body(part, **refused)).status_code == 400
    for _ in range(2):
        answered(server, body(part))
