"""The bundled model's boxes in source pixels are as good as in its own, its times as right."""

import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import httpx
import numpy as np
import pytest
from PIL import Image

from saccade.demo.evaluation.cases import make_cases
from saccade.demo.evaluation.requests import encode_lossless
from saccade.demo.world.answers import boxes_of, iou, mm_ss, seconds_of
from saccade.demo.world.examples import TRAINING_RATES, clip_controls, clip_example, random_clip

CASES = 10
LEAST_IOU = 0.7  # on average; half of that is a box beside its thing
ORIENTATION = 0x0112
AS_ORIENTATION_6 = Image.Transpose.ROTATE_90  # stored so, it is upright again when turned back


@pytest.fixture(scope="module")
def cases():
    return [case for case in make_cases(3, CASES) if case.figure == "boxes"]


def content_of(case, factor, orientation):
    """The case's picture as a photo of `factor` times the planned size, planned as the case's."""
    raster = Image.fromarray(case.medium.example.raster[0])
    size = round(raster.width * factor), round(raster.height * factor)
    photo = raster.resize(size, Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    if orientation == 6:
        photo = photo.transpose(AS_ORIENTATION_6)
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=95, exif=exif)
    controls = {"resized_width": raster.width, "resized_height": raster.height}
    url = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return [
        {"type": "image_url", "image_url": {"url": url}, **controls},
        {"type": "text", "text": case.question},
    ]


def body_of(content, vision):
    return {
        "model": "demo",
        "messages": [{"role": "user", "content": content}],
        "temperature": 0,
        "max_tokens": 128,
        "vision": vision,
    }


def ask(url, content, **vision):
    """The text of an answer, and its `vision`."""
    body = body_of(content, vision)
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=300).json()
    return answer["choices"][0]["message"]["content"], answer.get("vision")


def ask_stream(url, content, **vision):
    body = body_of(content, vision) | {"stream": True}
    text, told, pieces = "", [], 0
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=300) as answer:
        for line in answer.iter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if "vision" in chunk:
                told.append((chunk["choices"][0]["finish_reason"], chunk["vision"]))
            piece = chunk["choices"][0]["delta"].get("content") or ""
            text, pieces = text + piece, pieces + bool(piece)
    ((reason, found),) = told
    assert reason == "stop"
    assert pieces > 4 or "times" in vision  # a clock time comes out at once
    return text, found


@pytest.mark.parametrize(("factor", "orientation"), [(2, 1), (0.5, 1), (2, 6)])
def test_boxes_are_as_good_in_source_pixels(trained_server, cases, factor, orientation):
    contents = [content_of(case, factor, orientation) for case in cases]
    with ThreadPoolExecutor(8) as pool:
        model = list(pool.map(lambda content: ask(trained_server, content), contents))
        source = list(
            pool.map(lambda content: ask(trained_server, content, coordinates="source"), contents)
        )
        streamed = list(
            pool.map(
                lambda content: ask_stream(trained_server, content, coordinates="source"), contents
            )
        )
    assert streamed == source
    overlaps = []
    for case, (in_model, plain), (in_source, vision) in zip(cases, model, source, strict=True):
        assert plain is None
        right = boxes_of(case.expected)
        said, mapped = boxes_of(in_model), boxes_of(in_source)
        assert len(said) == len(mapped) == len(vision["detections"])
        assert in_source.replace(" ", "").count(",") == in_model.replace(" ", "").count(",")
        for box, other in zip(said, mapped, strict=True):
            assert np.abs(np.array(box) * factor - other).max() <= 0.5
        for detection, item in zip(vision["detections"], json.loads(in_source), strict=True):
            expected = {"choice": 0, "label": item["label"], "bbox_2d": item["bbox_2d"], "image": 0}
            assert detection == expected
        assert vision["warnings"] == []
        for truth, box, other in zip(right, said, mapped, strict=False):
            in_photo = [edge * factor for edge in truth]
            overlaps.append((iou(box, truth), iou(other, in_photo)))
            # Whole pixels of the photo: each edge is off by half of one at most.
            width, height = in_photo[2] - in_photo[0], in_photo[3] - in_photo[1]
            allowed = 0 if factor == 2 else 2 / width + 2 / height
            assert abs(overlaps[-1][0] - overlaps[-1][1]) <= allowed + 1e-9
    assert len(overlaps) >= CASES
    in_model, in_source = np.mean(overlaps, axis=0)
    assert in_model >= LEAST_IOU
    assert in_source >= LEAST_IOU
    assert abs(in_model - in_source) <= 0.03


def late_events(cut):
    """Clips with a question about an event well after the cut, and its second."""
    rng = np.random.default_rng([5, 17])
    while True:
        clip = random_clip(rng, 20, 10, early=False)
        fps = TRAINING_RATES[rng.integers(len(TRAINING_RATES))]
        example = clip_example(rng, clip, fps, ["event_time"], 1, worn=False)
        if not example.turns or seconds_of(example.turns[0].answer) < cut + 2:
            continue
        controls = clip_controls(clip, fps)
        medium = encode_lossless(clip.render(range(clip.frames)), clip.fps)
        yield (
            {
                "type": "video_url",
                "video_url": {
                    "url": "data:video/quicktime;base64," + base64.b64encode(medium).decode()
                },
                "fps": fps,
                "resized_width": controls.resized_width,
                "resized_height": controls.resized_height,
                "video_start": cut,
            },
            example.turns[0],
        )


def test_times_of_a_cut_clip_are_those_of_the_source(trained_server):
    cut = 3
    right = 0
    for part, turn in islice(late_events(cut), 4):
        content = [part, {"type": "text", "text": turn.question}]
        in_model, _ = ask(trained_server, content)
        in_source, vision = ask(trained_server, content, times="source")
        assert in_source == mm_ss(seconds_of(in_model) + cut)
        assert vision == {"warnings": []}
        assert ask_stream(trained_server, content, times="source") == (in_source, vision)
        right += in_source == turn.answer
    assert right >= 3
