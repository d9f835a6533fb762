"""Limits of requests, headers and bodies; the headers of answers; what browsers may do."""

import asyncio
import re
import socket

import httpx
import pytest
from starlette.requests import Request

from saccade.server.api.app import build_app
from saccade.server.core.errors import INTERNAL_MESSAGE, BodyTimeout, InvalidRequest
from saccade.server.core.lifecycle import Lifecycle
from saccade.server.core.settings import RequestLimits
from saccade.server.engine.flags import add_engine_arguments, make_parser
from saccade.server.flow.services import Services
from saccade.server.http.connection import read_json
from saccade.server.request.field_checks import EngineOptions, check_amounts
from saccade.server.request.parsed_request import CHAT, parse_request


def check(body, **limits):
    check_amounts(body, RequestLimits(**limits))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 17}, "n"),
        ({"n": "17"}, "n"),
        ({"prompt_logprobs": " +2_1"}, "prompt_logprobs"),
        ({"prompt_logprobs": "-1"}, "prompt_logprobs"),
        ({"best_of": 17}, "best_of"),
        ({"n": 9, "prompt": ["a", "b"]}, "n"),
        ({"prompt": ["a"] * 129}, "prompt"),
        ({"messages": [{}] * 4097}, "messages"),
        ({"tools": [{}] * 129}, "tools"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": "a" * 1025}, "stop"),
        ({"stop": ["a", "a" * 1025]}, "stop[1]"),
        ({"logit_bias": dict.fromkeys(map(str, range(1025)), 1)}, "logit_bias"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": 21}, "logprobs"),
        ({"prompt_logprobs": -1}, "prompt_logprobs"),
        ({"structured_outputs": {"regex": "a" * 65_536}}, "structured_outputs"),
        ({"max_tokens": 101}, "max_tokens"),
        ({"max_completion_tokens": 101}, "max_completion_tokens"),
        ({"min_tokens": 101}, "min_tokens"),
    ],
)
def test_too_much_is_refused_by_name(body, param):
    with pytest.raises(InvalidRequest) as caught:
        check(body, max_answer_tokens=100)
    assert caught.value.param == param


def test_what_is_allowed_passes():
    most = {"n": 16, "stop": ["a" * 1024] * 16, "top_logprobs": 20, "logprobs": True}
    check(most | {"max_tokens": 100, "prompt": [1] * 10_000}, max_answer_tokens=100)
    check({"max_tokens": 10**6, "prompt": ["a"] * 128})


def test_an_answer_without_a_length_gets_the_longest():
    limits = RequestLimits(max_answer_tokens=100)
    for given in ({}, {"max_tokens": None}):
        assert parse_request(given, CHAT, limits, EngineOptions()).body["max_tokens"] == 100
    chosen = {"max_completion_tokens": 5}
    assert parse_request(chosen, CHAT, limits, EngineOptions()).body == chosen


@pytest.mark.parametrize(("total", "idle"), [(0.05, 60), (60, 0.05)])
async def test_a_body_that_drips_is_given_up(total, idle):
    """One byte after the other for ever, and one byte and then none."""

    async def receive():
        await asyncio.sleep(0.01 if total < idle else 3600)
        return {"type": "http.request", "body": b" ", "more_body": True}

    headers = [(b"content-type", b"application/json")]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    with pytest.raises(BodyTimeout):
        await read_json(request, 10**6, total, idle)


def test_longest_request_line_and_most_headers(server):
    many = {f"x-{number}": "a" for number in range(300)}
    assert httpx.get(server.url + "/health", headers=many).status_code == 431
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nx: " + b"a" * 70_000)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert httpx.get(server.url + "/health").status_code == 200


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/v1/nothing", "/docs", "/metrics"])
def test_headers_of_every_answer(server, path):
    for headers in ({}, server.headers):
        answer = httpx.get(server.url + path, headers=headers)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert (answer.headers.get("cache-control") == "no-store") == path.startswith("/v1")


async def test_headers_of_an_unforeseen_error():
    parser = make_parser()
    add_engine_arguments(parser)
    services = Services(None, None, None, Lifecycle(1.0), None)  # no route can work with it
    app = build_app(services, parser.parse_args([]), [])
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/v1/models")
    assert answer.status_code == 500
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json()["error"]["message"] == INTERNAL_MESSAGE


def test_no_web_page_may_ask(server):
    headers = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    for method in ("OPTIONS", "GET"):
        answer = httpx.request(method, server.url + "/v1/models", headers=headers)
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_docs_load_nothing_from_elsewhere(server):
    page = httpx.get(server.url + "/docs")
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert loaded == ["/docs/swagger-ui.css", "data:,", "/docs/swagger-ui-bundle.js"]
    for path in (loaded[0], loaded[2]):
        assert httpx.get(server.url + path).status_code == 200
    assert "http" not in page.headers["content-security-policy"]
