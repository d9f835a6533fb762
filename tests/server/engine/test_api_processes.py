"""Several API processes before one engine."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psutil


def body(*parts: dict, **more: object) -> dict:
    content = [*parts, {"type": "text", "text": "Go on"}]
    messages = [{"role": "user", "content": content}]
    return {"model": "demo", "max_tokens": 12, "temperature": 0, "messages": messages, **more}


def said(server, request: dict) -> str:
    answer = server.post(request)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


def listening(server) -> list[psutil.Process]:
    """The API processes."""
    return [
        child
        for child in psutil.Process(server.process.pid).children()
        if any(one.status == psutil.CONN_LISTEN for one in child.net_connections("inet"))
    ]


def test_two_processes_share_the_engine_and_leave_together(
    server, start_server, image_url, wait_for
):
    several = start_server("--api-server-count=2", "--dtype=float32")
    assert len(listening(several)) == 2
    urls = [image_url(28 * size, 84) for size in range(2, 10)]
    requests = [body({"type": "image_url", "image_url": {"url": url}}) for url in urls]
    expected = [said(server, request) for request in requests]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):  # each process decodes what is new to it
            assert list(pool.map(lambda request: said(several, request), requests)) == expected
    metrics = several.metrics()
    assert metrics["saccade_media_frames_total"] == 3 * len(requests)
    assert metrics["saccade_media_cached_total"] >= len(requests)
    several.wait_until_idle()
    with several.stream(body(max_tokens=400, ignore_eos=True, stream=True)) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        os.kill(several.process.pid, signal.SIGTERM)
        assert "data: [DONE]" in list(lines)
    assert several.process.wait(60) == 0
    wait_for(lambda: not several.group_processes(), "a process is left")


def test_sigterm_while_they_start(launch_server, wait_for):
    several = launch_server("--api-server-count=2")
    wait_for(lambda: len(several.group_processes()) >= 5, "no API process was started")
    several.process.terminate()
    assert several.process.wait(60) == 130
    wait_for(lambda: not several.group_processes(), "a process is left")
    assert "Traceback" not in several.log.read_text()


def test_sigterm_while_a_process_starts(tmp_path):
    """The process is started whole first: half of it would end with a traceback."""
    script = tmp_path / "starts.py"
    script.write_text(
        "import multiprocessing, os, signal, time\n"
        "from saccade.server.engine.api_processes import _Leaving, _leave\n"
        "class Signal:\n"
        "    def __reduce__(self):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        return int, ()\n"
        "if __name__ == '__main__':\n"
        "    child = multiprocessing.get_context('spawn').Process(target=int, args=(Signal(),))\n"
        "    try:\n"
        "        signal.signal(signal.SIGTERM, _leave)\n"
        "        child.start()\n"
        "        time.sleep(60)\n"
        "        print('went on')\n"
        "    except _Leaving:\n"
        "        child.join()\n"
        "        print('left', child.exitcode)\n"
    )
    run = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert (run.stdout, run.returncode) == ("left 0\n", 0), run.stderr


def test_a_killed_api_process_ends_the_server(start_server, wait_for):
    several = start_server("--api-server-count=2")
    listening(several)[0].kill()
    assert several.process.wait(60) == 1
    wait_for(lambda: not several.group_processes(), "a process is left")
