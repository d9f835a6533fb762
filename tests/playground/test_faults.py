"""What goes wrong, as the page tells it; keys; stopping."""

import json
import re
import socket
import threading
import time
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image

from saccade.demo.questions import QUESTIONS, SHAPES

expect = pytest.importorskip(
    "playwright.sync_api", reason="deploy/setup_browser.sh installs the extra 'browser'"
).expect

COLOUR = QUESTIONS[0]
KEY = "playground-test-key"
BUSY = 16  # requests that the server queues (conftest.py); fetches take seven eighths of them


BEGUN = re.compile(r".{20}")


def make_endless(page):
    """Every question that the page asks gets an answer that goes on until it is stopped."""

    def longer(route):
        body = route.request.post_data_json | {"ignore_eos": True, "max_tokens": 4000}
        route.continue_(post_data=json.dumps(body))

    page.route("**/chat/completions", longer)


def note(page):
    return page.locator("saccade-answer .note").last


def wait_for_metric(url, line):
    deadline = time.monotonic() + 60
    while line not in httpx.get(f"{url}/metrics").text.splitlines():
        assert time.monotonic() < deadline, f"never: {line}"
        time.sleep(0.05)


def test_a_wrong_key(open_page):
    page = open_page(key="wrong")
    dialog = page.get_by_role("dialog", name="API key")
    expect(dialog).to_contain_text("the API key is wrong")
    assert "wrong" not in page.url
    page.get_by_label("Key", exact=True).fill(KEY)
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(page.get_by_label("Model")).to_have_value("demo")
    assert page.evaluate("Object.entries(sessionStorage)") == [["saccade-api-key", KEY]]


def test_an_answer_is_stopped(page, ask, url):
    make_endless(page)
    ask(page, COLOUR.text, SHAPES.file)
    expect(page.locator("saccade-answer .text")).to_have_text(BEGUN)
    page.get_by_role("button", name="Stop").click()
    expect(note(page)).to_have_text("Stopped.")
    text = page.locator("saccade-answer .text").text_content()
    wait_for_metric(url, "saccade_requests_in_flight 0.0")
    assert page.locator("saccade-answer .text").text_content() == text
    # Escape stops, too; and what there was of the answer is part of the conversation.
    page.get_by_label("Question", exact=True).fill("Go on")
    with page.expect_request("**/chat/completions") as asked:
        page.keyboard.press("Enter")
    assert asked.value.post_data_json["messages"][1] == {"role": "assistant", "content": text}
    expect(page.locator("saccade-answer .text").last).to_have_text(BEGUN)
    page.keyboard.press("Escape")
    expect(note(page)).to_have_text("Stopped.")


def test_a_busy_server_says_when_to_come_again(page, ask, url, tmp_path):
    Image.effect_noise((400, 400), 90).save(tmp_path / "large.png")  # a body that counts as large
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        media = f"http://127.0.0.1:{silent.getsockname()[1]}/a.png"
        part = {"type": "image_url", "image_url": {"url": media}}
        body = {"model": "demo", "messages": [{"role": "user", "content": [part]}]}
        for _ in range(BUSY * 7 // 8):
            stack.enter_context(unread(url, body))
        wait_for_metric(url, f"saccade_queued_requests {BUSY * 7 / 8}")
        ask(page, "What is it?", tmp_path / "large.png")
        expect(note(page)).to_contain_text("Error 429:")
        expect(note(page)).to_contain_text("Try again in")
        expect(note(page)).to_have_attribute("role", "alert")
    # With room again, so is the answer.
    page.get_by_label("max_tokens").fill("2")
    page.get_by_role("button", name="Ask again").click()
    expect(page.locator("saccade-answer")).to_have_attribute("aria-busy", "false")
    expect(note(page)).not_to_contain_text("Error")


def unread(url, body):
    """A request whose answer nobody reads."""
    address = urlsplit(url)
    data = json.dumps(body).encode()
    connection = socket.create_connection((address.hostname, address.port))
    lines = ["POST /v1/chat/completions HTTP/1.1", f"Host: {address.netloc}"]
    lines += [f"Authorization: Bearer {KEY}", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(data)}", "", ""]
    connection.sendall("\r\n".join(lines).encode() + data)
    return connection


def test_files_that_are_none(page, ask, tmp_path):
    (tmp_path / "notes.txt").write_text("A text.")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "named.jpg").write_text("A text.")
    files = [tmp_path / name for name in ("notes.txt", "empty.png", "named.jpg")]
    page.get_by_label("Add images or videos").set_input_files(files)
    told = page.get_by_role("alert").first
    expect(told).to_contain_text("notes.txt is neither an image nor a video.")
    expect(told).to_contain_text("empty.png is empty.")
    expect(page.locator("#attached li")).to_have_count(1)  # what it is, the server finds out
    expect(page.locator(".price")).to_contain_text("Error 400: named.jpg:")
    ask(page, "What is it?")
    expect(note(page)).to_contain_text("Error 400: named.jpg:")


def test_an_image_that_is_too_large(page, ask, tmp_path):
    Image.new("1", (4000, 3000)).save(tmp_path / "huge.png")
    ask(page, "What is it?", tmp_path / "huge.png")
    expect(note(page)).to_contain_text("Error 4")
    expect(note(page)).to_contain_text("4000")
    expect(page.get_by_role("button", name="Ask again")).to_be_visible()


def test_a_control_that_is_refused_is_marked(page):
    page.get_by_label("Add images or videos").set_input_files(SHAPES.file)
    page.get_by_label("Set A").get_by_text("Images").click()
    field = page.get_by_label("max_pixels").first
    field.fill("0")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(page.locator(".price")).to_contain_text("max_pixels")
    field.fill("")
    expect(page.locator(".price")).to_contain_text("of images")
    assert field.get_attribute("aria-invalid") is None


def test_a_server_that_goes_away(open_page, ask, url):
    server = urlsplit(url)
    with Relay(server.hostname, server.port) as relay:
        page = open_page(key="")
        page.goto(relay.url)
        page.get_by_label("Key", exact=True).fill(KEY)
        page.get_by_role("button", name="Use it").click()
        make_endless(page)
        ask(page, COLOUR.text, SHAPES.file)
        expect(page.locator("saccade-answer .text")).to_have_text(BEGUN)
        relay.cut()
        expect(note(page)).to_contain_text("The connection broke before the answer had ended.")
        page.get_by_role("button", name="Ask again").click()
        expect(note(page)).to_contain_text("The server cannot be reached.")


class Relay:
    """Passes bytes between a port of its own and a server's, until they are cut off."""

    def __init__(self, host, port):
        self._server = host, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.cut()

    def cut(self):
        for end in (self._listener, *self._ends):
            with suppress(OSError):  # it has ended by itself
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._server)
            self._ends += near, far
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source, sink):
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
