"""Questions asked in a real browser, of a real server, and what the page shows of the answers."""

import io
import re
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from saccade.demo.questions import EVENTS, GROUNDING, QUESTIONS, SHAPES, SIGN
from saccade.demo.world.answers import boxes_of, iou

expect = pytest.importorskip(
    "playwright.sync_api", reason="deploy/setup_browser.sh installs the extra 'browser'"
).expect

MEDIA = Path(__file__).parents[2] / "demo" / "media"
COLOUR, VIDEO = QUESTIONS[0], QUESTIONS[3]
MARK = (230, 0, 60)  # the first colour of style.css


def set_control(page, kind, name, value, chosen="A"):
    group = page.get_by_role("group", name=f"Set {chosen}")
    details = group.locator("details", has=page.locator("summary", has_text=kind))
    details.evaluate("element => { element.open = true; }")
    details.get_by_label(name, exact=True).fill(str(value))


def show_video_as_it_is(page):
    for name, value in EVENTS.controls.items():
        set_control(page, "Videos", name, value)


def answers(page):
    """Waits until the last question has its answers; they."""
    found = page.locator("article").last.locator("saccade-answer")
    for index in range(found.count()):
        expect(found.nth(index)).to_have_attribute("aria-busy", "false")
    return found


def report_of(page):
    """The numbers of the last answer's report, by name, and its table's rows."""
    report = page.locator("details.report").last
    report.locator("summary").click()
    terms, values = report.locator("dt").all_inner_texts(), report.locator("dd").all_inner_texts()
    rows = [row.locator("td").all_inner_texts() for row in report.locator("tbody tr").all()]
    return dict(zip(terms, values, strict=True)), rows


def test_a_question_about_an_image(page, ask):
    page.get_by_label("Add images or videos").set_input_files(SHAPES.file)
    page.get_by_label("Question", exact=True).fill(COLOUR.text)
    price = page.locator(".price")
    expect(price).to_contain_text("of images")
    expect(page.locator(".price-details")).to_have_text("shapes.jpg: 224 × 168, 48 tokens")
    # The price is asked for again with the whole question.
    expect(price).to_have_text("80 of 8192 tokens: 48 of images, 32 of text")
    ask(page, COLOUR.text)
    expect(answers(page).locator(".text")).to_have_text(COLOUR.answer)
    numbers, rows = report_of(page)
    assert rows == [["shapes.jpg", "224 × 168", "224 × 168", "1 × 12 × 16", "48"]]
    assert (numbers["Prompt"], numbers["of images"]) == ("80 tokens", "48 tokens")
    assert re.fullmatch(r"\d+ tokens", numbers["cached"])
    assert re.fullmatch(r"\d+\.\d\d s", numbers["First token after"])
    # A follow-up carries the image and the answer.
    with page.expect_request("**/chat/completions") as asked:
        ask(page, GROUNDING.text)
    expect(answers(page).locator(".text")).to_contain_text("bbox_2d")
    roles = [message["role"] for message in asked.value.post_data_json["messages"]]
    assert roles == ["user", "assistant", "user"]


def test_a_box_is_drawn_at_its_place_while_the_answer_streams(page, ask, tmp_path):
    # Twice the size that the model is shown: the box is told in pixels of the file.
    with Image.open(SHAPES.file) as image:
        image.resize((448, 336), Image.Resampling.BICUBIC).save(tmp_path / "large.png")
    set_control(page, "Images", "resized_width", 224)
    set_control(page, "Images", "resized_height", 168)
    page.evaluate(
        """new MutationObserver(() => {
            window.early ||= !!document.querySelector("saccade-answer[aria-busy=true] .box");
        }).observe(document.body, { childList: true, subtree: true, attributes: true });"""
    )
    ask(page, GROUNDING.text, tmp_path / "large.png")
    answer = answers(page)
    (truth,) = boxes_of(GROUNDING.answer)
    (said,) = boxes_of(answer.locator(".text").inner_text())
    assert iou(said, [2 * edge for edge in truth]) > 0.7
    assert page.evaluate("window.early")
    expect(answer.locator("figcaption")).to_contain_text("yellow triangle: box from")
    answer.locator(".overlay span").evaluate("element => element.remove()")
    shown = Image.open(io.BytesIO(answer.locator(".frame").screenshot())).convert("RGB")
    # The border's own pixels: all of them lie on the box, and they reach its four edges.
    near = np.abs(np.asarray(shown).astype(int) - MARK).max(axis=2) < 12
    ys, xs = np.nonzero(near)
    scale = shown.width / 448
    drawn = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) / scale
    assert np.abs(drawn - said).max() <= 2 / scale + 1


def test_a_time_is_marked_and_leads_there(page, ask):
    show_video_as_it_is(page)
    ask(page, VIDEO.text, EVENTS.file)
    answer = answers(page)
    expect(answer.locator(".text")).to_have_text(VIDEO.answer)
    mark = answer.get_by_role("button", name="Go to 00:04")
    mark.click()
    video = answer.locator("video")
    assert video.evaluate("element => element.currentTime") == 4
    slider = answer.get_by_role("slider", name="Position in events.mp4")
    expect(slider).to_have_attribute("aria-valuetext", "00:04")
    track, button = slider.bounding_box(), mark.bounding_box()
    middle = button["x"] + button["width"] / 2 - track["x"]
    duration = float(slider.get_attribute("max"))
    assert middle == pytest.approx(8 + (track["width"] - 16) * 4 / duration, abs=1.5)

    _, ((*_, grid, tokens),) = report_of(page)
    assert (grid.split(" ")[0], tokens) == ("8", "160")
    frames = answer.locator(".strip button")
    expect(frames).to_have_count(16)
    expect(answer.locator('.strip canvas[width="1"]')).to_have_count(0)  # all are drawn
    with av.open(str(EVENTS.file)) as container:
        film = [frame.to_image().resize((90, 72)) for frame in container.decode(video=0)]
    film = np.stack([np.asarray(frame).astype(int) for frame in film])
    # Of all frames of the video, the one drawn is like the one that was sampled.
    for index, element in enumerate(frames.all()):
        url = element.locator("canvas").screenshot()
        seen = np.asarray(Image.open(io.BytesIO(url)).convert("RGB").resize((90, 72))).astype(int)
        distances = np.abs(film - seen).mean(axis=(1, 2, 3))
        sampled = round(index * (len(film) - 1) / 15)
        assert distances[sampled] <= distances.min() + 1, index
    frames.nth(15).click()
    assert video.evaluate("element => element.currentTime") > 7
    # Of the same question again, whole blocks of the prompt are cached.
    ask(page, VIDEO.text)
    answers(page)
    numbers, _ = report_of(page)
    assert int(numbers["cached"].split()[0]) >= 128


def test_two_answers_side_by_side(page, ask):
    page.get_by_label("Two answers side by side").check()
    set_control(page, "Images", "max_pixels", 20000, chosen="B")
    ask(page, COLOUR.text, SHAPES.file)
    first, second = answers(page).all()
    for one, name in ((first, "A"), (second, "B")):
        expect(one.get_by_role("heading")).to_have_text(f"Answer {name}")
        one.locator("summary").click()
    tokens = [int(one.locator("td").last.inner_text()) for one in (first, second)]
    assert tokens[0] == 48
    assert tokens[1] < 30
    left, right = first.bounding_box(), second.bounding_box()
    assert left["x"] + left["width"] <= right["x"]
    assert left["y"] == right["y"]


def test_two_tabs_at_once_keep_their_keys_to_themselves(page, ask):
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.get_by_role("dialog", name="API key")).to_be_visible()
    other.get_by_label("Key", exact=True).fill("playground-test-key")
    other.get_by_role("button", name="Use it").click()
    ask(page, COLOUR.text, SHAPES.file)
    ask(other, QUESTIONS[2].text, SIGN.file)
    expect(answers(page).locator(".text")).to_have_text(COLOUR.answer)
    expect(answers(other).locator(".text")).to_have_text(QUESTIONS[2].answer)
    assert page.evaluate("localStorage.length + document.cookie.length") == 0


def test_a_video_of_30_megabytes(page, ask, tmp_path):
    film = EVENTS.file.read_bytes()
    rest = bytes(30_000_000 - len(film) - 8)  # a box of MP4 that players pass over
    (tmp_path / "large.mp4").write_bytes(film + struct.pack(">I4s", len(rest) + 8, b"free") + rest)
    show_video_as_it_is(page)
    ask(page, VIDEO.text, tmp_path / "large.mp4")
    expect(answers(page).locator(".text")).to_have_text(VIDEO.answer)
    expect(page.locator("article .media li")).to_contain_text("large.mp4")
    report_of(page)
    expect(page.locator(".strip button")).to_have_count(16)


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_files_are_dropped_and_pasted(page, drop, event):
    drop(page, event, "sign.jpg", "image/jpeg", (MEDIA / "sign.jpg").read_bytes())
    expect(page.locator("#attached li")).to_have_count(1)
    expect(page.locator(".price")).to_contain_text("28 of images")
    page.get_by_role("button", name="Remove sign.jpg").click()
    expect(page.locator("#attached li")).to_have_count(0)
    expect(page.locator(".price")).not_to_contain_text("of images")


def test_a_picture_of_the_camera(page):
    page.get_by_role("button", name="Take a picture").click()
    page.get_by_role("button", name="Take it").click()
    expect(page.locator("#attached li")).to_contain_text("camera.jpg")
    expect(page.locator(".price")).to_contain_text("of images")
    assert page.locator("#webcam-view").evaluate("element => element.srcObject") is None


def test_marks_of_unfinished_answers(page):
    read = """async (text) => {
        const { marksIn, timesIn } = await import(new URL("playground/marks.js", location.origin));
        return [marksIn(text).map(({ label, numbers }) => [label, numbers]), timesIn(text)];
    }"""
    whole = (
        '[{"bbox_2d": [1, 2, 30, 40.5], "label": "a \\"b\\""}, {"label": "c", "point_2d": [5, 6]}]'
    )
    assert page.evaluate(read, whole) == [[['a "b"', [1, 2, 30, 40.5]], ["c", [5, 6]]], []]
    assert page.evaluate(read, whole[:20]) == [[], []]
    assert page.evaluate(read, whole[:32]) == [[[None, [1, 2, 30, 40.5]]], []]
    times = 'At 00:04, 01:02:03.5 and 0:07. {"start": 2.5, "end_time": "9s"} 12:345 1.2:30'
    assert page.evaluate(read, times) == [[], [2.5, 4, 7, 9, 3723.5]]
