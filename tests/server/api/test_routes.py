"""What is mounted, what is open, and what is not there."""

import socket
from importlib.metadata import version

import httpx
import pytest
import vllm

from saccade.server.api.app import build_app
from saccade.server.core.lifecycle import Lifecycle
from saccade.server.engine.flags import add_engine_arguments, make_parser
from saccade.server.flow.services import Services

# Every route: its methods, whether it needs a key, whether it takes a body. A new one belongs here
# first, and gets the tests below with it.
AUDIT = {
    "/v1/chat/completions": ("POST", True, True),
    "/v1/completions": ("POST", True, True),
    "/v1/responses": ("POST", True, True),
    "/v1/responses/input_tokens": ("POST", True, True),
    "/v1/messages": ("POST", True, True),
    "/v1/messages/count_tokens": ("POST", True, True),
    "/v1/vision/plan": ("POST", True, True),
    "/tokenize": ("POST", True, True),
    "/detokenize": ("POST", True, True),
    "/v1/files": ("GET POST", True, False),
    "/v1/files/{file_id}": ("GET DELETE", True, False),
    "/v1/files/{file_id}/content": ("GET", True, False),
    "/v1/models": ("GET HEAD", True, False),
    "/v1/models/{model:path}": ("GET HEAD", True, False),
    "/health": ("GET HEAD", False, False),
    "/ready": ("GET HEAD", False, False),
    "/metrics": ("GET", False, False),  # an application of its own, which takes any method
    "/version": ("GET HEAD", False, False),
    "/docs": ("GET", False, False),
    "/docs/swagger-ui-bundle.js": ("GET", False, False),
    "/docs/swagger-ui.css": ("GET", False, False),
    "/openapi.json": ("GET HEAD", False, False),
    "/": ("GET HEAD", False, False),
    "/playground": ("GET HEAD", False, False),
    "/playground/{name}": ("GET HEAD", False, False),
}
OURS = set(AUDIT)
TAKE_A_BODY = sorted(path for path, (_, _, body) in AUDIT.items() if body)


async def test_every_route_is_audited():
    parser = make_parser()
    add_engine_arguments(parser)
    services = Services(None, None, None, Lifecycle(1.0), None)
    routes = build_app(services, parser.parse_args([]), ["key"]).routes
    mounted = {}
    for route in routes:
        mounted.setdefault(route.path, set()).update(getattr(route, "methods", None) or ())
    assert mounted == {path: set(methods.split()) for path, (methods, _, _) in AUDIT.items()}


@pytest.mark.parametrize("path", AUDIT)
def test_keys_are_asked_for(server, path):
    methods, needs_key, _ = AUDIT[path]
    method = methods.partition(" ")[0] or "GET"
    url = server.url + path.replace("{name}", "app.js")
    answer = httpx.request(method, url, follow_redirects=True)
    assert answer.status_code == (401 if needs_key else 200)


@pytest.mark.parametrize("path", TAKE_A_BODY)
def test_bodies_are_bounded_and_declared(server, path):
    headers = {**server.headers, "Content-Type": "text/plain"}
    assert httpx.post(server.url + path, content="{}", headers=headers).status_code == 415
    assert server.post([], path).json()["error"]["code"] == "invalid_json"
    host, port = server.url.removeprefix("http://").split(":")
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json"]
    lines += [f"Authorization: {server.headers['Authorization']}", f"Content-Length: {2**40}"]
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


@pytest.fixture(scope="module")
def routes_of_vllm():
    """(path, method) of everything that vLLM's own server can mount."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_SERVER_DEV_MODE", "1")
        from vllm.entrypoints.launchers.app import build_app

        from saccade.server.engine.moved import make_arg_parser

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
    assert {"/abort_requests", "/reset_prefix_cache", "/v1/responses/{response_id}"} <= {
        path for path, _ in others
    }
    reached = []
    for path, method in sorted(others):
        answer = httpx.request(method, server.url + path, headers=server.headers)
        if answer.status_code != 404:
            reached.append((path, method, answer.status_code))
    assert reached == []


def test_every_key_opens(server):
    for key in ("test-key-1", "test-key-2"):
        headers = {"Authorization": f"Bearer {key}"}
        assert httpx.get(server.url + "/v1/models", headers=headers).status_code == 200


def test_models(client):
    (model,) = client.models.list().data
    assert model.id == "demo"
    assert "/" not in model.model_dump_json().replace("\\/", "")


def test_version(server):
    assert httpx.get(server.url + "/version").json() == {
        "version": version("saccade"),
        "vllm": vllm.__version__,
    }


def test_metrics_of_both(server):
    assert {"saccade_requests_in_flight", "vllm:num_requests_running"} <= set(server.metrics())


def test_metrics_tell_what_was_shown_and_where_the_time_went(server, image_url):
    before = server.metrics()
    part = {"type": "image_url", "image_url": {"url": image_url(112, 56, "thistle")}}
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
