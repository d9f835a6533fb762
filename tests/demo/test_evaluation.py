"""The evaluation asks both ways, marks answers, draws and reports."""

import re
from pathlib import Path

import pytest
from PIL import Image

from saccade.demo.checkpoints.checkpoint import random_checkpoint
from saccade.demo.evaluate import FIGURES, main
from saccade.demo.evaluation.answers import Answer, TransformersModel
from saccade.demo.evaluation.cases import CLIP_FIGURES, PICTURE_FIGURES, make_cases
from saccade.demo.evaluation.requests import request
from saccade.demo.evaluation.sheet import draw_sheet
from saccade.demo.world.examples import UNIT, UNSEEN_SIZES


@pytest.fixture(scope="module")
def cases():
    return make_cases(seed=3, count=2)


def test_every_figure_has_its_cases(cases):
    assert [case.figure for case in cases] == [
        figure for figure in (*PICTURE_FIGURES, *CLIP_FIGURES) for _ in range(2)
    ]
    again = make_cases(seed=3, count=2)
    assert [case.expected for case in cases] == [case.expected for case in again]
    assert [request(case.conversation) for case in cases] == [
        request(case.conversation) for case in again
    ]
    others = make_cases(seed=4, count=2)
    assert [case.question for case in cases] != [case.question for case in others]


def test_held_out_sizes_and_rates_are_asked(cases):
    for case in cases:
        _, height, width, _ = case.medium.example.raster.shape
        assert ((width // UNIT, height // UNIT) in UNSEEN_SIZES) == (
            case.figure == "unseen_size"
        ) or (case.medium.kind == "video")
        if case.figure == "unseen_fps":
            assert case.medium.fps in (1.5, 3.0, 5.0)


def test_the_right_answer_counts_and_a_wrong_one_does_not(cases):
    for case in cases:
        assert case.score(case.expected) == 1
        assert case.score("I cannot say") == 0


def test_requests_carry_the_medium_and_its_controls(cases):
    clip = next(case for case in cases if case.medium.kind == "video")
    medium, text = request(clip.conversation)["messages"][-1]["content"]
    assert medium["video_url"]["url"].startswith("data:video/quicktime;base64,")
    assert medium.keys() >= {"fps", "resized_width", "resized_height"}
    assert text == {"type": "text", "text": clip.question}


def test_transformers_answers(cases):
    model = TransformersModel(random_checkpoint())
    for case in (cases[0], cases[-1]):
        answer = model.answer(case)
        assert answer.text
        assert answer.margin > 0
    # Time is part of what the model is told: without it, the same clip is another prompt.
    clips = [case for case in cases if case.medium.example.seconds_per_grid not in (None, 0.5)]
    assert any(model.answer(c).text != model.answer(c, frame_index_time=True).text for c in clips)


def test_the_sheet_shows_right_and_wrong_boxes(cases, tmp_path: Path):
    boxes = [case for case in cases if case.figure == "boxes"]
    answers = [Answer(boxes[0].expected), Answer('[{"bbox_2d": [1, 1, 9, 9], "label": "x"}]')]
    draw_sheet(boxes, answers, tmp_path / "sheet.png")
    colours = {colour for _, colour in Image.open(tmp_path / "sheet.png").getcolors(1 << 24)}
    assert {(0, 220, 120), (255, 60, 160)} <= colours


def test_the_command_reports_and_fails_for_a_random_model(tmp_path: Path, capsys):
    code = main(
        [
            *("--checkpoint", str(random_checkpoint()), "--cases", "1", "--only", "transformers"),
            *("--json", str(tmp_path / "figures.json"), "--sheet", str(tmp_path / "sheet.png")),
        ]
    )
    assert code == 1
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert re.fullmatch(r"RESULT( \w+=(\d\.\d{4}|nan)){26}", last)
    assert re.findall(r"(\w+)=", last) == list(FIGURES)
    assert (tmp_path / "figures.json").exists()
    assert (tmp_path / "sheet.png").exists()


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path, capsys):
    assert main(["--checkpoint", str(tmp_path)]) == 2
    assert "holds no checkpoint" in capsys.readouterr().err
