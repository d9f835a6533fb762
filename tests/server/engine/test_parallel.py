"""Two tensor-parallel workers that take media from shared memory: the same answers, one end."""

import json
import os


def request(*urls: str) -> dict:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {
        "model": "demo",
        "max_tokens": 12,
        "temperature": 0,
        "messages": [{"role": "user", "content": [*parts, {"type": "text", "text": "Go on"}]}],
    }


def said(server, body: dict) -> str:
    answer = server.post(body)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


def test_tensor_parallel_with_the_cache_in_shared_memory(
    server, start_server, image_url, monkeypatch, wait_for
):
    cores = sorted(os.sched_getaffinity(0))
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", f"{cores[0]}|{cores[-1]}")  # one a worker
    parallel = start_server(
        "--tensor-parallel-size=2", "--mm-processor-cache-type=shm", "--dtype=float32"
    )
    red, blue = image_url(140, 84), image_url(84, 140, "blue")
    # New, known from before, and both in one request.
    bodies = [request(red), request(red), request(blue, red), request(blue)]
    expected = [said(server, body) for body in bodies]
    assert len(set(expected)) == 3, "the pictures make a difference"
    assert [said(parallel, body) for body in bodies] == expected
    assert parallel.metrics()["vllm:mm_cache_hits_total"] > 0
    assert parallel.metrics()["saccade_media_cached_total"] == 3
    parallel.wait_until_idle()

    # One worker of two is killed: the other waits for it inside the model.
    long = {**request(), "max_tokens": 3000, "ignore_eos": True, "stream": True}
    with parallel.stream(long) as stream:
        events = (line for line in stream.iter_lines() if line)
        for _ in range(10):
            next(events)
        worker, _ = (p for p in parallel.group_processes() if p.name().startswith("VLLM::Work"))
        worker.kill()
        *_, error, done = events
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "engine_dead"
    assert done == "data: [DONE]"
    assert parallel.process.wait(60) == 1
    wait_for(lambda: not parallel.group_processes(), "a process is left")
