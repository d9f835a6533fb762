"""What the engine has done before `/ready` is green, and a start that ends because it cannot."""

import re
from contextlib import suppress

import httpx
import pytest
from child_path import SUPPORT_PATH
from vllm.config import ECTransferConfig
from vllm.engine.arg_utils import EngineArgs

from saccade.demo.checkpoints.checkpoint import random_checkpoint
from saccade.media.planning.plan import VisionGeometry
from saccade.server.engine.warm_up import warm_up_parameters, warm_up_prompts

ALL = {"text", "an image", "a video"}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, ALL),
        ({"limit_mm_per_prompt": {"image": 0}}, {"text", "a video"}),
        ({"limit_mm_per_prompt": {"video": 0}}, {"text", "an image"}),
        ({"language_model_only": True}, {"text"}),
        ({"max_model_len": 100}, {"text", "an image"}),  # the video has 120 tokens
        ({"max_model_len": 60}, {"text"}),
        ({"max_model_len": 1}, set()),
    ],
    ids=["all", "no images", "no videos", "language model only", "short", "very short", "one"],
)
def test_what_the_engine_does_not_take_is_left_out(flags: dict, expected: set[str]) -> None:
    given = {"max_model_len": 4096, "max_num_batched_tokens": 4096, "enforce_eager": True}
    config = EngineArgs(str(random_checkpoint()), **(given | flags)).create_engine_config()
    assert {name for name, _ in warm_up_prompts(config, VisionGeometry())} == expected


@pytest.mark.parametrize(("allowed", "asked"), [(20, 1), (1, 1), (-1, 1), (0, None)])
def test_logprobs_are_asked_for_where_they_are_allowed(allowed: int, asked: int | None) -> None:
    config = EngineArgs(
        str(random_checkpoint()), max_model_len=4096, max_logprobs=allowed
    ).create_engine_config()
    parameters = warm_up_parameters(config)
    assert parameters.logprobs == asked
    parameters._validate_logprobs(config.model_config)


@pytest.mark.parametrize(("role", "expected"), [("ec_producer", set()), ("ec_consumer", {"text"})])
def test_nothing_is_put_where_other_engines_look(role: str, expected: set[str]) -> None:
    """Encoder outputs would stay there; an engine that only encodes takes no text either."""
    transfer = ECTransferConfig(ec_connector="ECExampleConnector", ec_role=role)
    config = EngineArgs(
        str(random_checkpoint()), max_model_len=4096, ec_transfer_config=transfer
    ).create_engine_config()
    assert {name for name, _ in warm_up_prompts(config, VisionGeometry())} == expected


def test_an_engine_that_cannot_encode_a_video_ends_the_start(
    launch_server, wait_for, monkeypatch
) -> None:
    """It has encoded the image by then: both come before the server is ready."""
    monkeypatch.setenv("PYTHONPATH", SUPPORT_PATH)
    server = launch_server("--worker-cls=failing_worker.FailingWorker", "--dtype=float32")
    seen = set()

    def ended() -> bool:
        with suppress(httpx.TransportError):
            seen.add(httpx.get(server.url + "/ready", timeout=5).status_code)
        return server.process.poll() is not None

    wait_for(ended, "the server goes on")
    assert server.process.returncode == 1
    assert 200 not in seen
    log = server.log.read_text(errors="replace")
    (line,) = re.findall("^saccade serve: error: .*", log, re.MULTILINE)
    assert line.startswith("saccade serve: error: the server did not start: warm-up with a video")
    wait_for(lambda: not server.group_processes(), "a process is left")
