"""One server of the bundled model, one Chromium, and a page of it for each test."""

import base64
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from saccade.server.commands.child import LIGHT_FLAGS, ServerProcess

if find_spec("playwright") and find_spec("axe_playwright_python"):
    from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

    expect.set_options(timeout=60_000)

KEY = "playground-test-key"
QUEUE = 16
PIXELS = 8_000_000  # more than anybody sends but one
MEDIA = Path(__file__).parents[2] / "demo" / "media"
# Only bounds on a broken page or server.
WAIT_MILLISECONDS = 60_000


@pytest.fixture(scope="session")
def url(starts_engine: None) -> Iterator[str]:
    """Of the server, whose API takes a key."""
    flags = (
        f"--api-key={KEY}",
        "--allow-private-media",
        f"--max-queued-requests={QUEUE}",
        f"--max-image-pixels={PIXELS}",
    )
    with ServerProcess("demo", (*LIGHT_FLAGS, *flags)) as server:
        server.wait_ready(600)
        yield server.url


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    chromium = shutil.which("chromium")
    if not (find_spec("playwright") and find_spec("axe_playwright_python")):
        pytest.skip("the extra 'browser' is not installed: deploy/setup_browser.sh installs it")
    if not chromium:
        pytest.skip("there is no chromium; as root, deploy/setup_browser.sh installs it by apt-get")
    # Of a module: while it runs, Playwright keeps an event loop that other tests cannot have.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--use-fake-device-for-media-stream"],
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: "Browser", url: str) -> "Iterator[Callable[..., Page]]":
    """Opens the playground in a tab of its own context, with the key unless told otherwise.

    A page fails its test by what it throws, and by whatever its content security policy stops.
    """
    faults: list[str] = []
    contexts = []

    def opened(key: str = KEY, path: str = "/", **options: object) -> "Page":
        context = browser.new_context(**{"permissions": ["camera"], **options})
        context.set_default_timeout(WAIT_MILLISECONDS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda told: "Security Policy" in told.text and faults.append(told.text))
        page.goto(url + path)
        if key:
            give_key(page, key)
        return page

    yield opened
    for context in contexts:
        with suppress(Error):  # of a page that a test has closed
            context.close()
    assert faults == []


def give_key(page: "Page", key: str) -> None:
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Use it").click()


@pytest.fixture
def page(open_page: "Callable[..., Page]") -> "Page":
    return open_page()


@pytest.fixture(scope="session")
def ask() -> "Callable[..., None]":
    """Asks a question, about files of demo/media or others; does not wait for the answer."""

    def asks(page: "Page", question: str, *files: object) -> None:
        if files:
            paths = [MEDIA / file if isinstance(file, str) else file for file in files]
            page.get_by_label("Add images or videos").set_input_files(paths)
        page.get_by_label("Question", exact=True).fill(question)
        page.get_by_role("button", name="Ask", exact=True).click()

    return asks


@pytest.fixture(scope="session")
def drop() -> "Callable[..., None]":
    """Drops files on the page, or pastes them: event "drop" or "paste"."""

    def drops(page: "Page", event: str, name: str, kind: str, data: bytes) -> None:
        page.evaluate(
            """([event, name, type, base64]) => {
                const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
                const transfer = new DataTransfer();
                transfer.items.add(new File([bytes], name, { type }));
                const made = event === "paste"
                    ? new ClipboardEvent(event, { clipboardData: transfer, bubbles: true })
                    : new DragEvent(event, { dataTransfer: transfer, bubbles: true });
                document.body.dispatchEvent(made);
            }""",
            [event, name, kind, base64.b64encode(data).decode()],
        )

    return drops
