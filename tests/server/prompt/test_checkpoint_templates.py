"""Templates of a checkpoint on the hub: a hub that fails is not one without them."""

import copy
import time
from types import SimpleNamespace

import pytest
import transformers
from hub import hub
from huggingface_hub import constants, file_download
from huggingface_hub.utils import _http

from saccade.server.checkpoint.bundled import bundled_checkpoint
from saccade.server.checkpoint.lookup import HubFailed
from saccade.server.engine.prompt.checkpoint_templates import TemplateReader

PLACEHOLDERS = {"image": "<|image_pad|>", "video": "<|video_pad|>"}
TOKENIZER = transformers.AutoTokenizer.from_pretrained(bundled_checkpoint())
FAILING = {
    "broken/model": "503",
    "busy/model": "429",
    "gated/model": "403",
    "forbidden/model": "403",
    "silent/model": "timed out",
}


@pytest.fixture
def hub_reader(monkeypatch, tmp_path):
    """Makes readers of a model of the stand-in hub's, with an empty cache and no retries."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.3)
    monkeypatch.setattr(file_download, "_ETAG_RETRY_TIMEOUT", 0.3)
    without_sleep = SimpleNamespace(**{**vars(time), "sleep": lambda _: None})
    monkeypatch.setattr(_http, "time", without_sleep)

    def make(model: str) -> TemplateReader:
        tokenizer = copy.copy(TOKENIZER)
        tokenizer.name_or_path = model
        return TemplateReader(tokenizer, PLACEHOLDERS)

    with hub() as url:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        files = "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + files)
        yield make


@pytest.mark.parametrize("model", FAILING)
def test_a_hub_that_fails_is_not_one_without_the_file(hub_reader, model, monkeypatch):
    with pytest.raises(HubFailed) as raised:
        hub_reader(model).checkpoint()
    line = str(raised.value)
    assert "\n" not in line
    assert f"the model {model!r} has a chat_template.jinja" in line
    assert FAILING[model] in line
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # nobody is asked
    assert hub_reader(model).checkpoint().own[0].source == "the tokenizer"


def test_a_file_that_the_hub_does_not_have_is_absent(hub_reader, monkeypatch):
    assert hub_reader("empty/model").checkpoint().own[0].source == "the tokenizer"
    # Which the cache remembers when the hub fails.
    nobody = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", nobody)
    assert hub_reader("empty/model").checkpoint().own[0].source == "the tokenizer"
