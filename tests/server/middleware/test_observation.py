"""Request ids, the log and the metrics of the server that all tests share."""

import base64
import re
import socket
from urllib.parse import quote

import httpx
import pytest

SECRETS = {
    "prompt": "planted-prompt-4711",
    "picture": "planted-picture-4711",
    "user": "planted-user-4711",
    "query": "planted-query-4711",
    "key": "planted-key-4711",
    "tool": "planted_tool_4711",
    "stop": "planted-stop-4711",
    "path": "planted-path-query-4711",
}


def chat(*parts, **more):
    content = [*parts, {"type": "text", "text": more.pop("text", "Go on")}]
    return {
        "model": "demo",
        "max_tokens": 3,
        "messages": [{"role": "user", "content": content}],
        **more,
    }


def lines_of(server, wait_for, request_id):
    """The lines that tell of a request, once there is one."""

    def found():
        lines = server.log.read_text().splitlines()
        return [line for line in lines if line.endswith(f" [{request_id}]") and " seconds " in line]

    wait_for(found, "nothing is told of the request")
    return found()


HI = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/health", 200, None),
        ("GET", "/v1/models", 200, None),
        ("GET", "/v1/nothing", 404, None),
        ("DELETE", "/v1/models", 405, None),
        ("GET", "/v1/chat/completions", 405, None),
        ("POST", "/v1/chat/completions", 400, {"model": "demo", "messages": 3}),
        ("POST", "/v1/chat/completions", 404, {"model": "no", "messages": [HI]}),
    ],
)
def test_every_answer_has_an_id(server, method, path, status, body):
    answers = [
        httpx.request(method, server.url + path, headers=server.headers, json=body)
        for _ in range(2)
    ]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert [answer.status_code for answer in answers] == [status, status]
    assert len(ids) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)


def test_a_refused_key_has_an_id(server):
    answer = httpx.get(server.url + "/v1/models")
    assert (answer.status_code, len(answer.headers["x-request-id"])) == (401, 32)


@pytest.mark.parametrize("given", ["a", "trace:7.3_x-Y", "7" * 128])
def test_a_sane_id_of_the_client_is_kept(server, given):
    answer = httpx.get(server.url + "/version", headers={"X-Request-Id": given})
    assert answer.headers.get_list("x-request-id") == [given]


@pytest.mark.parametrize("given", ["", "7" * 129, "a b", "a%s", 'a"', "a{}", "ä".encode()])
def test_another_is_replaced(server, given):
    answer = httpx.get(server.url + "/version", headers={"X-Request-Id": given})
    (made,) = answer.headers.get_list("x-request-id")
    assert re.fullmatch("[0-9a-f]{32}", made)


def test_vllm_takes_the_id(server):
    headers = {**server.headers, "X-Request-Id": "joined-1"}
    url = server.url + "/v1/chat/completions"
    answer = httpx.post(url, json=chat(), headers=headers, timeout=120)
    assert answer.json()["id"] == "chatcmpl-joined-1"


def test_one_line_tells_of_a_request(server, wait_for, image_url):
    part = {"type": "image_url", "image_url": {"url": image_url(112, 56)}}
    headers = {**server.headers, "X-Request-Id": "told-once"}
    answer = httpx.post(
        server.url + "/v1/chat/completions?" + SECRETS["path"],
        json=chat(part),
        headers=headers,
        timeout=120,
    )
    usage = answer.json()["usage"]
    (line,) = lines_of(server, wait_for, "told-once")
    assert re.search(
        r"INFO .* POST /v1/chat/completions 200, seconds [\d.]+, first_byte_seconds [\d.]+, "
        rf"image_tokens 8, video_tokens 0, prompt_tokens {usage['prompt_tokens']}, "
        r"completion_tokens 3 \[told-once\]$",
        line,
    ), line


def test_a_client_that_leaves_is_told_as_499(server, wait_for):
    body = chat(stream=True, max_tokens=4000, ignore_eos=True)
    headers = {**server.headers, "X-Request-Id": "gone-early"}
    url = server.url + "/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=headers, timeout=120) as answer:
        next(answer.iter_lines())
    (line,) = lines_of(server, wait_for, "gone-early")
    assert "POST /v1/chat/completions 499, " in line


def test_probes_are_not_told(server, wait_for):
    for path in ("/health", "/ready", "/metrics"):
        httpx.get(server.url + path, headers={"X-Request-Id": "probe"})
    httpx.get(server.url + "/version", headers={"X-Request-Id": "after-the-probes"})
    (line,) = lines_of(server, wait_for, "after-the-probes")
    assert "GET /version 200" in line
    assert "[probe]" not in server.log.read_text()


def test_the_log_holds_nothing_of_a_request(server, wait_for, image_url):
    """Whatever goes well or wrong with it."""
    secret_url = f"data:image/png;base64,{base64.b64encode(SECRETS['picture'].encode()).decode()}"
    nowhere = f"http://127.0.0.1:1/{SECRETS['path']}?key={SECRETS['query']}"
    with_user = f"http://{SECRETS['user']}:x@127.0.0.1:1/"
    text = SECRETS["prompt"]
    tool = {"type": "function", "function": {"name": SECRETS["tool"], "parameters": {}}}
    bodies = [
        chat(text=text, stop=[SECRETS["stop"]], tools=[tool]),
        chat(text=text, stream=True),
        chat({"type": "image_url", "image_url": {"url": image_url(56, 56)}}, text=text),
        chat({"type": "image_url", "image_url": {"url": secret_url}}, text=text),
        chat({"type": "image_url", "image_url": {"url": nowhere}}, text=text),
        chat({"type": "image_url", "image_url": {"url": with_user}}, text=text),
        chat({"type": text}, text=text),
        chat(text=text, max_tokens=text),
        chat(text=text, temperature=-1, user=text),
        chat(text=text * 1000),
        {"model": "demo", "prompt": text, "messages": text},
    ]
    statuses = []
    for number, body in enumerate(bodies):
        headers = {**server.headers, "X-Request-Id": f"secret-{number}"}
        url = f"{server.url}/v1/chat/completions?{quote(SECRETS['query'])}"
        statuses.append(httpx.post(url, json=body, headers=headers, timeout=120).status_code)
    assert statuses == [200] * 3 + [400] * 8
    headers = {"Authorization": f"Bearer {SECRETS['key']}", "X-Request-Id": "secret-key"}
    assert httpx.get(server.url + "/v1/models", headers=headers).status_code == 401
    for name in (*(f"secret-{number}" for number in range(len(bodies))), "secret-key"):
        assert lines_of(server, wait_for, name)
    log = server.log.read_text()
    kept = {name for name, secret in SECRETS.items() if secret in log or quote(secret) in log}
    kept |= {key for key in ("test-key-1", "test-key-2") if key in log}
    assert kept == set()
    assert "base64," not in log


def test_metrics_of_bytes_first_tokens_and_routes(server, image_url):
    url = image_url(56, 56)
    size = len(base64.b64decode(url.partition(",")[2]))

    def samples():
        text = httpx.get(server.url + "/metrics").text
        return {
            name: float(value)
            for name, value in re.findall(r"^(\w+(?:\{.*\})?) (\S+)$", text, re.MULTILINE)
        }

    before = samples()
    part = {"type": "image_url", "image_url": {"url": url}}
    with server.stream(chat(part, stream=True)) as answer:
        list(answer.iter_lines())
    assert server.post({"model": "demo"}).status_code == 400
    after = samples()

    def grown(name):
        return after[name] - before.get(name, 0)

    assert grown('saccade_media_bytes_total{kind="image"}') == size
    assert grown("saccade_first_token_seconds_count") == 1
    labels = 'handler="/v1/chat/completions",method="POST"'
    assert grown(f'http_requests_total{{{labels},status="2xx"}}') == 1
    assert grown(f'http_requests_total{{{labels},status="4xx"}}') == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"POST /v1/models HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nBad Header: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_malformed_http(server, sent):
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(sent)
        answer = b""
        while received := connection.recv(65_536):
            answer += received
    assert answer.split(b"\r\n")[0].startswith(b"HTTP/1.1 4"), answer
    assert httpx.get(server.url + "/health").status_code == 200


@pytest.mark.parametrize("path", ["/v1/models", "/health", "/v1/chat/completions"])
def test_head_and_options(server, path):
    posted = path == "/v1/chat/completions"
    head = httpx.head(server.url + path, headers=server.headers)
    assert (head.status_code, head.content) == (405 if posted else 200, b"")
    answer = httpx.options(server.url + path, headers=server.headers)
    assert answer.status_code == 405
    assert answer.headers["allow"] == ("POST" if posted else "GET")
    assert answer.json()["error"]["code"] == "method_not_allowed"
