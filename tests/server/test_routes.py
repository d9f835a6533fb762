"""What is mounted, what is open, and what is not there."""

import httpx
import pytest

from saccade.server.vllm_adapter import make_parser

OURS = {
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/models",
    "/health",
    "/ready",
    "/metrics",
    "/version",
    "/docs",
    "/openapi.json",
}


@pytest.fixture(scope="module")
def routes_of_vllm():
    """(path, method) of everything that vLLM's own server can mount."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_SERVER_DEV_MODE", "1")
        from vllm.entrypoints.launchers.app import build_app
        from vllm.entrypoints.launchers.cli_args import make_arg_parser

        arguments = make_arg_parser(make_parser()).parse_args(["--enable-scale-out"])
        app = build_app(arguments, ("generate", "render"))
        return {
            (route.path, method)
            for route in app.routes
            for method in getattr(route, "methods", None) or ()
        }


def test_nothing_else_of_vllm_is_mounted(server, routes_of_vllm):
    others = {(path, method) for path, method in routes_of_vllm if path not in OURS}
    # The list is vLLM's own, with the routes that change a running server.
    assert {"/tokenize", "/reset_prefix_cache", "/v1/responses"} <= {path for path, _ in others}
    reached = []
    for path, method in sorted(others):
        answer = httpx.request(method, server.url + path, headers=server.headers)
        if answer.status_code != 404:
            reached.append((path, method, answer.status_code))
    assert reached == []


@pytest.mark.parametrize(
    "path", ["/health", "/ready", "/version", "/metrics", "/docs", "/openapi.json"]
)
def test_open_without_a_key(server, path):
    assert httpx.get(server.url + path).status_code == 200


def test_every_key_opens(server):
    for key in ("test-key-1", "test-key-2"):
        headers = {"Authorization": f"Bearer {key}"}
        assert httpx.get(server.url + "/v1/models", headers=headers).status_code == 200


def test_models(client):
    (model,) = client.models.list().data
    assert model.id == "demo"
    assert "/" not in model.model_dump_json().replace("\\/", "")


def test_version(server):
    assert httpx.get(server.url + "/version").json() == {"version": "0.1.0", "vllm": "0.32.0"}


def test_openapi_describes_the_bodies(server):
    document = httpx.get(server.url + "/openapi.json").json()
    assert set(document["paths"]) == OURS - {"/docs", "/openapi.json"}
    body = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]
    assert "messages" in body["content"]["application/json"]["schema"]["properties"]


def test_metrics_of_both(server):
    assert {"saccade_requests_in_flight", "vllm:num_requests_running"} <= set(server.metrics())


def test_metrics_tell_what_was_shown_and_where_the_time_went(server, image_url):
    before = server.metrics()
    part = {"type": "image_url", "image_url": {"url": image_url(112, 56)}}
    message = {"role": "user", "content": [part, {"type": "text", "text": "What?"}]}
    body = {"model": "demo", "messages": [message], "max_tokens": 1}
    assert server.post(body).status_code == 200
    after = server.metrics()

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown("saccade_media_frames_total") == 1
    assert grown("saccade_media_pixels_total") == 112 * 56
    assert grown("saccade_visual_tokens_total") == 8
    # fetch, plan, decode, resize, and three waits: for two threads and for memory
    assert grown("saccade_media_stage_seconds_count") == 7
