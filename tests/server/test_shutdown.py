"""SIGTERM: requests under way finish, new ones are refused, nothing is left."""

import json
import signal

import httpx

BODY = {
    "model": "demo",
    "max_tokens": 1500,
    "ignore_eos": True,
    "stream": True,
    "stream_options": {"include_usage": True},
    "messages": [{"role": "user", "content": "Go on"}],
}


def test_sigterm_in_mid_stream(start_server, wait_for):
    server = start_server()
    assert len(server.session_processes()) > 1  # the engine's
    with server.stream(BODY) as answer:
        lines = answer.iter_lines()
        for _ in range(10):
            next(lines)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: httpx.get(server.url + "/ready").status_code == 503, "/ready stayed green")
        refused = server.post(BODY)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        assert int(refused.headers["retry-after"]) > 0
        assert httpx.get(server.url + "/health").status_code == 200
        events = [line.removeprefix("data: ") for line in lines if line]
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["usage"]["completion_tokens"] == 1500
    assert server.process.wait(60) == 0
    wait_for(lambda: server.session_processes() == [], "processes are left")
    assert "force killing" not in server.log.read_text()
