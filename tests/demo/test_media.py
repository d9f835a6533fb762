"""The bundled pictures and clips are what they are said to be, and are credited."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from saccade.demo.make_media import MEDIA, events_clip, make_media, shapes_scene, sign_scene
from saccade.demo.questions import QUESTIONS
from saccade.demo.world.clips import Clip
from saccade.demo.world.questions import clip_turns, picture_turns, see, see_text


def test_the_photograph_is_a_jpeg():
    with Image.open(MEDIA / "temple.jpg") as photo:
        photo.load()
        assert (photo.format, photo.mode, photo.size) == ("JPEG", "RGB", (640, 427))


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_the_film_is_small_h264_and_moves():
    film = MEDIA / "bunny.mp4"
    assert film.stat().st_size < 300_000
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.width, stream.height, stream.average_rate) == (480, 270, 25)
    frames = frames_of(film).astype(int)
    assert len(frames) == 132
    assert np.abs(frames[25:] - frames[:-25]).mean() > 1


@pytest.mark.parametrize("name", ["shapes.jpg", "sign.jpg", "events.mp4"])
def test_the_script_makes_the_medium(name: str, tmp_path: Path):
    """The same picture, but for what another version of an encoder or a font would change."""
    make_media(tmp_path)
    made, kept = (frames_of(folder / name).astype(int) for folder in (tmp_path, MEDIA))
    assert made.shape == kept.shape
    assert np.abs(made - kept).mean() < 1


def asked() -> dict[tuple[str, str], set[str]]:
    """Every question that the generator asks of a sample, with its answers."""
    answers: dict[tuple[str, str], set[str]] = {}
    samples = {"shapes.jpg": shapes_scene(), "sign.jpg": sign_scene(), "events.mp4": events_clip()}
    for name, sample in samples.items():
        for seed in range(40):  # wordings vary
            rng = np.random.default_rng(seed)
            for task in ("colour_kind", "boxes", "reading", "event_time"):
                if isinstance(sample, Clip):
                    turns = clip_turns(rng, sample, task)
                elif task == "event_time":
                    continue
                else:
                    text = see_text(sample.texts[0], 1, 1) if sample.texts else None
                    turns = picture_turns(rng, see(sample.things, 1, 1), text, task)
                for turn in turns:
                    answers.setdefault((name, turn.question), set()).add(turn.answer)
    return answers


def test_the_demo_knows_the_right_answers():
    answers = asked()
    plain = [question for question in QUESTIONS if len(question.turns) == 1]
    known = 0
    for question in plain:
        (turn,) = question.turns
        (*media, _) = sorted(turn, key=lambda part: isinstance(part, str))
        about = (media[0].file.name, question.text)
        if len(media) == 1 and not question.fields and about in answers:
            assert answers[about] == {question.answer}
            known += 1
    assert known >= 5


def test_every_medium_is_credited():
    credits = (MEDIA / "CREDITS.md").read_text(encoding="utf-8")
    files = {file.name for file in MEDIA.iterdir() if file.suffix != ".md"}
    assert files == {"temple.jpg", "bunny.mp4", "shapes.jpg", "sign.jpg", "events.mp4"}
    for name in files:
        assert f"`{name}`" in credits
    for licence in ("by/2.0/", "by/3.0/"):
        assert f"https://creativecommons.org/licenses/{licence}" in credits
