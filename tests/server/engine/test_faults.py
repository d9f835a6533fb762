"""What happens around a server goes wrong, with its real processes: disk, clock, media, engine.

One server for all, with two API processes; the last test ends it.
"""

import base64
import json
import re
import signal
import struct
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from trace_receiver import TraceReceiver, attributes

DAY = 86_400
LONG = {
    "model": "demo",
    "max_tokens": 3000,
    "ignore_eos": True,
    "messages": [{"role": "user", "content": "Go on"}],
}


def picture(url: str, **more: object) -> dict:
    parts = [{"type": "image_url", "image_url": {"url": url}}]
    messages = [{"role": "user", "content": parts}]
    return {"model": "demo", "max_tokens": 2, "messages": messages, **more}


class Clock:
    """The wall clock of the server's processes, moved by whole seconds."""

    def __init__(self, folder: Path) -> None:
        self._offset = folder / "offset"
        self.library = folder / "clock_jump.so"
        source = Path(__file__).parent / "clock_jump.c"
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(self.library), str(source), "-ldl"]
        subprocess.run(command, check=True)
        self.set(0)

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.library), "CLOCK_OFFSET_FILE": str(self._offset)}

    def set(self, seconds: int) -> None:
        with self._offset.open("r+b" if self._offset.exists() else "w+b") as file:
            file.write(struct.pack("l", seconds))


@pytest.fixture(scope="module")
def clock(tmp_path_factory):
    return Clock(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module")
def traces():
    with TraceReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def faulty(start_shared_server, clock, traces):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in clock.environment.items():
            patch.setenv(name, value)
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", traces.url)
        patch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")  # milliseconds
        yield start_shared_server(
            "--api-server-count=2",
            "--allow-private-media",
            "--media-read-timeout=30",
            "--log-format=json",
            "--log-requests",
        )


def test_a_trace_from_the_client_to_the_engine(faulty, traces, image_url, wait_for):
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    headers = {
        **faulty.headers,
        "traceparent": f"00-{trace}-{parent}-01",
        "X-Request-Id": "traced-1",
    }
    url = faulty.url + "/v1/chat/completions"
    answer = httpx.post(url, json=picture(image_url(112, 56)), headers=headers, timeout=120)
    assert answer.status_code == 200, answer.text

    def spans():
        return [span for span in traces.spans() if span.trace_id.hex() == trace]

    names = {"POST /v1/chat/completions", "llm_request", "fetch", "plan", "queue", "decode"}
    names |= {"resize"}
    wait_for(lambda: {span.name for span in spans()} >= names, "a span is missing")
    (request,) = [span for span in spans() if span.name == "POST /v1/chat/completions"]
    assert request.parent_span_id.hex() == parent
    assert {s.parent_span_id for s in spans() if s is not request} == {request.span_id}
    told = attributes(request)
    assert told["http.response.status_code"] == 200
    assert (told["saccade.request_id"], told["saccade.image_tokens"]) == ("traced-1", 8)
    (engine,) = [span for span in spans() if span.name == "llm_request"]
    assert attributes(engine)["gen_ai.request.id"] == "chatcmpl-traced-1"
    for span in spans():
        assert request.start_time_unix_nano <= span.start_time_unix_nano + 5_000_000
        assert span.start_time_unix_nano <= span.end_time_unix_nano
    assert "base64" not in str(traces.spans())


def test_json_lines_and_prompts_when_asked_for(faulty, image_url, wait_for):
    secret = "asked-for-prompt"
    body = picture(image_url(84, 56))
    body["messages"][0]["content"].append({"type": "text", "text": secret})
    headers = {**faulty.headers, "X-Request-Id": "json-1"}
    url = faulty.url + "/v1/chat/completions"
    assert httpx.post(url, json=body, headers=headers, timeout=120).status_code == 200

    def lines():
        told = []
        for line in faulty.log.read_text().splitlines():
            if line.startswith("{"):
                told.append(json.loads(line))
        return told

    wait_for(lambda: any(x.get("request_id") == "json-1" and "route" in x for x in lines()), "none")
    (access,) = [x for x in lines() if x.get("request_id") == "json-1" and "route" in x]
    assert (access["route"], access["status"], access["levelname"], access["name"]) == (
        "/v1/chat/completions",
        200,
        "INFO",
        "saccade.access",
    )
    assert (access["image_tokens"], access["completion_tokens"]) == (6, 2)
    assert access["seconds"] >= access["first_byte_seconds"] > 0
    assert {"EngineCore", "MainProcess"} <= {x["processName"].partition("_")[0] for x in lines()}
    assert any(secret in x["message"] for x in lines())
    assert "base64," not in faulty.log.read_text()


def test_a_full_disk_stops_nothing(faulty, image_url, clip):
    """No byte can be written to any file, the log included: nothing that serves needs one.

    The metrics of several processes are files, too, but in shared memory. They are there once each
    process has answered.
    """
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(faulty.post, [picture(image_url(28 * n, 56)) for n in range(2, 10)])
        assert {answer.status_code for answer in answers} == {200}
    processes = faulty.group_processes()
    assert len(processes) > 4
    url = "data:video/mp4;base64," + base64.b64encode(clip).decode()
    part = {"type": "video_url", "video_url": {"url": url}, "max_frames": 8}
    message = {"role": "user", "content": [part]}
    before = faulty.log.stat().st_size
    for process in processes:
        process.rlimit(psutil.RLIMIT_FSIZE, (0, psutil.RLIM_INFINITY))
    try:
        for number in range(4):
            assert faulty.post(picture(image_url(56 + 28 * number, 84))).status_code == 200
        answer = faulty.post({"model": "demo", "max_tokens": 2, "messages": [message]})
        assert answer.status_code == 200, answer.text
        assert faulty.post({"model": "demo"}).status_code == 400
        assert faulty.metrics()["saccade_media_frames_total"] > 4
        assert httpx.get(faulty.url + "/ready").status_code == 200
        assert faulty.log.stat().st_size == before, "something was written after all"
    finally:
        for process in processes:
            process.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
    faulty.wait_until_idle()


def test_the_clock_jumps_while_a_stream_runs_and_media_hang(
    faulty, clock, silent_host, image_url, wait_for
):
    hanging = picture(f"http://127.0.0.1:{silent_host.getsockname()[1]}/")
    with ThreadPoolExecutor() as pool, faulty.stream({**LONG, "stream": True}) as stream:
        events = (line for line in stream.iter_lines() if line)
        for _ in range(10):
            next(events)
        held = pool.submit(faulty.post, hanging)
        wait_for(lambda: faulty.metrics()["saccade_media_loading"] == 1, "nothing is fetched")
        for jump in (DAY, -DAY):
            clock.set(jump)
            # Others are served. Nothing has timed out, either.
            answer = faulty.post(picture(image_url(56, 56)))
            assert answer.status_code == 200
            assert abs(answer.json()["created"] - time.time() - jump) < DAY / 2
            assert httpx.get(faulty.url + "/ready").status_code == 200
            next(events)
        assert not held.done()
        refused = held.result()
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (400, "media_not_fetched")
        assert error["param"] == "messages[0].content[0]"
        told = [line.removeprefix("data: ") for line in events]
        assert told[-1] == "[DONE]"
        assert json.loads(told[-2])["choices"][0]["finish_reason"] == "length"
    clock.set(0)
    faulty.wait_until_idle()


def test_a_killed_engine_is_told_to_all_and_ends_the_server(faulty, silent_host, wait_for):
    (engine,) = [p for p in faulty.group_processes() if p.name().startswith("VLLM::Engine")]
    hanging = picture(f"http://127.0.0.1:{silent_host.getsockname()[1]}/")
    seen: list[tuple[str, int, str]] = []

    def probe() -> None:
        """Until there is nobody any more."""
        with httpx.Client(base_url=faulty.url, timeout=2) as client:
            while True:
                for path in ("/health", "/ready", "/v1/models"):
                    try:
                        answer = client.get(path, headers=faulty.headers)
                    except httpx.TransportError:
                        return
                    code = "" if answer.is_success else answer.json()["error"]["code"]
                    seen.append((path, answer.status_code, code))

    longest = {**LONG, "n": 8}  # a loaded machine takes long to bring the others there
    with ThreadPoolExecutor() as pool, faulty.stream({**longest, "stream": True}) as stream:
        events = (line for line in stream.iter_lines() if line)
        for _ in range(10):
            next(events)
        waiting = [pool.submit(faulty.post, body) for body in (longest, longest, hanging)]
        wait_for(lambda: faulty.metrics()["saccade_requests_in_flight"] == 4, "not under way")
        probes = [threading.Thread(target=probe) for _ in range(4)]
        for thread in probes:
            thread.start()
        engine.send_signal(signal.SIGKILL)
        *_, error, done = events
        answers = [each.result() for each in waiting]
    assert json.loads(error.removeprefix("data: "))["error"] == {
        "message": "the engine has died",
        "type": "server_error",
        "param": None,
        "code": "engine_dead",
    }
    assert done == "data: [DONE]"
    for answer in answers:
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_dead")
        assert int(answer.headers["retry-after"]) > 0
    assert faulty.process.wait(120) == 1
    for thread in probes:
        thread.join()
    # Both processes turned red, and no answer was green after that.
    assert {entry[:2] for entry in seen} >= {("/health", 503), ("/ready", 503)}
    assert {code for _, status, code in seen if status != 200} == {"engine_dead"}
    wait_for(lambda: faulty.group_processes() == [], "processes are left")
    told = re.findall("saccade serve: error: .*died", faulty.log.read_text())
    assert len(told) == 1
