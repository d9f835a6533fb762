"""Who uses it by keyboard, by ear, in the dark or on a phone."""

import pytest

from saccade.demo.questions import EVENTS, GROUNDING, QUESTIONS, SHAPES

expect = pytest.importorskip(
    "playwright.sync_api", reason="deploy/setup_browser.sh installs the extra 'browser'"
).expect
Axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright",
    reason="deploy/setup_browser.sh installs the extra 'browser'",
).Axe

VIDEO = QUESTIONS[3]
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}


def fill(page, ask):
    """A conversation with everything that an answer can have."""
    page.get_by_label("Two answers side by side").check()
    ask(page, GROUNDING.text, SHAPES.file)
    expect(page.locator(".box")).to_have_count(2)
    ask(page, VIDEO.text, EVENTS.file)
    answers = page.locator("saccade-answer")
    expect(page.locator('saccade-answer[aria-busy="false"]')).to_have_count(4)
    for answer in answers.all():
        answer.locator("summary").click()
    expect(page.locator(".strip").first).to_be_visible()
    # And a field that is refused.
    controls = page.get_by_role("group", name="Set A")
    controls.get_by_text("Images", exact=True).click()
    controls.get_by_label("max_pixels").first.fill("0")
    expect(controls.locator("[aria-invalid]")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_axe_finds_no_fault(open_page, ask, scheme, size):
    # axe makes elements of text, which the page's own policy forbids.
    page = open_page(color_scheme=scheme, viewport=size, bypass_csp=True)
    fill(page, ask)
    assert faults(page) == []
    for button in ("API key", "Take a picture", "As curl"):
        page.get_by_role("button", name=button).first.click()
        expect(page.get_by_role("dialog")).to_be_visible()
        assert faults(page) == []
        page.keyboard.press("Escape")
    # Nothing is wider than the screen but what scrolls by itself.
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def faults(page):
    found = Axe().run(page).response["violations"]
    return [
        (fault["id"], fault["impact"], [node["html"] for node in fault["nodes"]]) for fault in found
    ]


def test_by_keyboard_alone(open_page):
    page = open_page(key="")
    expect(page.get_by_label("Key", exact=True)).to_be_focused()
    page.keyboard.type("playground-test-key")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Model")).to_have_value("demo")
    reached = tab(page, "Tab", until="compare")
    assert {"model", "key", "files", "webcam", "question"} <= set(reached)
    tab(page, "Shift+Tab", until="question")
    page.keyboard.type("What")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("is it?")
    assert page.get_by_label("Question", exact=True).input_value() == "What\nis it?"
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="Answered")).to_be_visible()
    expect(page.get_by_role("log").get_by_role("heading", name="Answer A")).to_be_visible()


def tab(page, key, until):
    """The ids of what has the focus, one after the other."""
    reached = []
    for _ in range(40):
        page.keyboard.press(key)
        reached.append(page.evaluate("document.activeElement.id"))
        if reached[-1] == until:
            return reached
    pytest.fail(f"{until} is not reached: {reached}")
