"""Overload as clients see it: what waits, what is refused, and that nothing of it stays."""

import socket
from contextlib import ExitStack

import httpx
import openai
import pytest

LONG = {
    "model": "demo",
    "messages": [{"role": "user", "content": "Go on"}],
    "max_tokens": 4000,
    "ignore_eos": True,
    "stream": True,
}
SHORT = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
FETCHING = ("/v1/chat/completions", "/v1/vision/plan", "/tokenize")


def pictures(*urls: str) -> dict:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {**SHORT, "messages": [{"role": "user", "content": parts}]}


@pytest.fixture
def many_silent():
    """Takes any number of connections and answers none."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/picture.png"


def test_fetches_fill_the_queue_but_not_the_places_of_text(
    server, client, many_silent, wait_for, image_url
):
    server.wait_until_idle()
    before = server.metrics()
    body = pictures(many_silent)
    with ExitStack() as stack:
        for number in range(56):
            path = FETCHING[number % len(FETCHING)]
            stack.enter_context(raw_request(server, body, path))
        wait_for(lambda: server.metrics()["saccade_queued_requests"] == 56, "fetches do not count")
        assert server.metrics()["saccade_tasks"] > before["saccade_tasks"] + 56
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(**body)
        assert refused.value.code == "rate_limit_exceeded"
        assert refused.value.type == "rate_limit_error"
        retry = refused.value.response.headers["retry-after"]
        assert 1 <= int(retry) <= 60
        assert f"retry in {retry} s" in refused.value.message
        for path in FETCHING:
            assert server.post(body, path).status_code == 429
        # What needs no fetch is not behind those that do.
        assert client.chat.completions.create(**SHORT).choices
        assert client.chat.completions.create(**pictures(image_url(56, 56))).choices
        # A large body is refused before it is read: it is not even JSON.
        unread = httpx.post(
            server.url + "/v1/chat/completions",
            content=b"x" * 8_000_000,
            headers={**server.headers, "Content-Type": "application/json"},
        )
        assert unread.status_code == 429
    server.wait_until_idle()
    after = server.metrics()
    assert after["saccade_tasks"] <= before["saccade_tasks"], "a task is left"
    refusals = after["saccade_refused_total"] - before["saccade_refused_total"]
    assert refusals == 2 + len(FETCHING)


def raw_request(server, body: dict, path: str = "/v1/chat/completions") -> socket.socket:
    """A request on a connection of its own, whose answer nobody reads."""
    request = httpx.Request("POST", server.url + path, json=body, headers=server.headers)
    address = request.url.host, request.url.port
    connection = socket.create_connection(address)
    lines = [f"POST {request.url.path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + request.read())
    return connection


def test_beyond_the_budget_requests_wait_and_leave_the_queue(server, client, wait_for):
    server.wait_until_idle()
    with ExitStack() as stack:
        holders = [stack.enter_context(raw_request(server, LONG)) for _ in range(9)]
        # 9 x 4000 tokens and some for their prompts, of 40,000 (conftest.py).
        wait_for(lambda: server.metrics()["saccade_in_flight_tokens"] > 36_000, "not admitted")
        left = raw_request(server, LONG)
        wait_for(lambda: server.metrics()["saccade_queued_requests"] == 1, "it does not wait")
        # Text is not behind it.
        assert client.chat.completions.create(**SHORT).choices
        left.close()
        wait_for(lambda: server.metrics()["saccade_queued_requests"] == 0, "it stays queued")
        stack.enter_context(raw_request(server, LONG))
        wait_for(lambda: server.metrics()["saccade_queued_requests"] == 1, "it does not wait")
        holders[0].close()
        wait_for(lambda: server.metrics()["saccade_queued_requests"] == 0, "it is not let in")
        assert server.metrics()["saccade_in_flight_tokens"] > 36_000
    server.wait_until_idle()


def test_what_can_never_fit_is_refused_before_it_is_decoded(server, client, image_url):
    kind, comma, data = image_url(2000, 2000).partition(",")
    cut_off = kind + comma + data[:160]  # enough to tell its size
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**pictures(cut_off))
    assert refused.value.code == "context_length_exceeded"
    assert refused.value.param == "messages[0].content[0]"
    assert "4096 tokens" in refused.value.message
    server.wait_until_idle()


def test_clients_do_not_choose_their_priority(server):
    refused = server.post({**SHORT, "priority": -5})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "priority"
