"""What leaves the page: commands, the conversation; and that text stays text."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest

from saccade.demo.questions import QUESTIONS, SHAPES

expect = pytest.importorskip(
    "playwright.sync_api", reason="deploy/setup_browser.sh installs the extra 'browser'"
).expect

COLOUR = QUESTIONS[0]
KEY = "playground-test-key"


def test_what_is_copied_runs(page, ask, tmp_path, url):
    name = "it's $(touch gone) `x`.jpg"  # as a file may be called
    (tmp_path / name).write_bytes(SHAPES.file.read_bytes())
    ask(page, 'What colour is the star? \\ $HOME "`', tmp_path / name)
    said = page.locator("saccade-answer")
    expect(said).to_have_attribute("aria-busy", "false")
    text = said.locator(".text").text_content()
    environment = {"OPENAI_API_KEY": KEY, "PATH": "/usr/bin:/bin"}
    answers = []
    for button, command in (("As curl", ["bash"]), ("As Python", [sys.executable, "-"])):
        page.get_by_role("button", name=button).click()
        code = page.locator("#code").inner_text()
        assert KEY not in code
        page.get_by_role("button", name="Close").click()
        ran = subprocess.run(
            command, input=code, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stderr
        answers.append(ran.stdout)
    chunks = [
        json.loads(line[6:]) for line in answers[0].splitlines() if line.startswith("data: {")
    ]
    pieces = [choice["delta"].get("content") for chunk in chunks for choice in chunk["choices"]]
    assert "".join(filter(None, pieces)) == text
    assert answers[1].strip() == text.strip()
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_the_conversation_is_exported(page, ask):
    ask(page, COLOUR.text, SHAPES.file)
    expect(page.locator("saccade-answer")).to_have_attribute("aria-busy", "false")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    path = download.value.path()
    kept = json.loads(Path(path).read_text(encoding="utf-8"))
    (turn,) = kept["turns"]
    assert turn["question"] == COLOUR.text
    assert turn["media"][0]["name"] == "shapes.jpg"
    encoded = turn["media"][0]["url"].partition(",")[2]
    assert base64.b64decode(encoded) == SHAPES.file.read_bytes()
    answer = turn["answers"]["A"]
    assert answer["text"] == COLOUR.answer
    assert answer["vision"]["media"][0]["tokens"] == 48
    assert answer["usage"]["prompt_tokens"] == 80
    assert KEY not in json.dumps(kept)


def test_text_stays_text(page, ask, tmp_path):
    markup = "<img src=x onerror=document.title='gone'>"
    (tmp_path / f"{markup}.jpg").write_bytes(SHAPES.file.read_bytes())
    ask(page, markup, tmp_path / f"{markup}.jpg")
    expect(page.locator("article > .text")).to_have_text(markup)
    expect(page.locator("article .media li")).to_contain_text(f"{markup}.jpg")
    expect(page.locator("saccade-answer")).to_have_attribute("aria-busy", "false")
    expect(page).to_have_title("Saccade playground")
