"""What people send: a server of the bundled model, and one whose checkpoint is as published."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import openai
import pytest
from published import published_checkpoint

from saccade.server.checkpoint.bundled import bundled_checkpoint

ROOT = Path(__file__).parents[2]
MOST_BYTES = 4 * 2**20  # of one medium


def _module(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("cases_server", ROOT / path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


servers = _module("tests/server/conftest.py")
data_url = servers.data_url_fixture
image_url = servers.image_url


@pytest.fixture(scope="session", params=["bundled", "published"])
def server(starts_engine, request, tmp_path_factory) -> Iterator:
    """Right answers, and the templates that published checkpoints have."""
    model = bundled_checkpoint()
    if request.param == "published":
        model = published_checkpoint(tmp_path_factory.mktemp("published") / "checkpoint")
    folder = tmp_path_factory.mktemp("cases")
    flags = ["--dtype=float32", "--allow-private-media", f"--files-dir={folder / 'files'}"]
    flags.append(f"--max-media-bytes={MOST_BYTES}")
    running = servers.start(folder / "log", *flags, model=model)
    running.files = folder / "files"
    yield running
    running.kill()


@pytest.fixture(scope="session")
def client(server) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=server.url + "/v1", api_key=servers.KEY, max_retries=0, timeout=120
    )


@pytest.fixture
def answered(server):
    """Posts a body and returns the text of its answer."""

    def post(body):
        answer = server.post(body)
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"][0]["message"]["content"]

    return post


@pytest.fixture
def refused(server):
    """Posts a body; returns the path and the message of its refusal."""

    def post(body, path="/v1/chat/completions", status=400):
        answer = server.post(body, path)
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        for words in ("NoneType", "Traceback", "object has no", "not subscriptable", "pydantic"):
            assert words not in error["message"]
        return error["param"], error["message"]

    return post
