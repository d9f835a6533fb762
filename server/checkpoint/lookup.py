"""Whether a named checkpoint can be had: a folder, the hub or its cache, told within seconds."""

import json
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

_CONFIG = "config.json"
_WEIGHTS = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json")
# Seconds that the hub has to answer one request, and all of the lookup, unless the environment
# says otherwise: hanging name servers know no time limit of their own.
_HUB_TIMEOUT = 5.0
_LOGIN = "hf auth login, or HF_TOKEN in the environment"
_NOWHERE = f"which is neither a folder nor in the cache {constants.HF_HUB_CACHE}"

_logger = logging.getLogger(__name__)


class HubFailed(ValueError):
    """The hub does not say what has to be known of a checkpoint; one line."""


def find_checkpoint(
    model: str,
    revision: str | None = None,
    token: str | bool | None = None,
    go_offline: bool = True,
    *,
    config: bool = True,
    weights: bool = True,
) -> None:
    """Makes sure that a checkpoint's configuration can be read, with one request and no retries.

    What the cache holds is not refused because the hub gives no answer, an error or no access;
    transformers reads it then too. If the hub cannot be reached and the cache holds all that is
    needed, the Hugging Face libraries of this process and its children are told to stay offline,
    as by ``HF_HUB_OFFLINE=1``: every one of their requests would be tried again for minutes.

    Args:
        model: a folder or a Hugging Face id. URLs of object storage are left to vLLM.
        token: as ``huggingface_hub`` takes it; None: the one that is logged in, if any.
        go_offline: whether an unreachable hub may change this process so.
        config: whether its configuration is needed; if not, it is enough that the model exists.
        weights: whether its weights are needed.

    Raises:
        ValueError: no such folder or model, no permission, or nobody to ask; one line that names
            the model and the mend.
    """
    folder = Path(model)
    if folder.is_dir():
        if config and not (folder / _CONFIG).is_file():
            raise ValueError(f"the folder {model!r} has no {_CONFIG}: it is not a checkpoint")
        return
    if folder.exists() or "://" in model or _uses_modelscope():
        return
    no_folder = f"there is no folder {model!r} (from {Path.cwd()})"
    if not _may_be_an_id(model):
        raise ValueError(no_folder)
    try:
        _find_id(model, revision, token, go_offline, config=config, weights=weights)
    except ValueError as error:
        if "/" in model and folder.parent.is_dir():  # so a folder may have been meant
            raise ValueError(f"{no_folder}; and as a Hugging Face id: {error}") from None
        raise


def _uses_modelscope() -> bool:
    # As vllm.envs reads it; importing that takes a second.
    return os.environ.get("VLLM_USE_MODELSCOPE", "").strip().lower() in ("1", "true")


def _may_be_an_id(model: str) -> bool:
    paths = model.startswith((".", "/", "~")) or "\\" in model or model.endswith("/")
    return not paths and model.count("/") < 2


def _find_id(
    model: str,
    revision: str | None,
    token: str | bool | None,
    go_offline: bool,
    *,
    config: bool,
    weights: bool,
) -> None:
    try:
        snapshot = _cached_snapshot(model, revision, (_CONFIG,) if config else (_CONFIG, *_WEIGHTS))
    except HFValidationError:
        raise ValueError(f"{model!r} is neither a folder nor a Hugging Face model id") from None
    name = _at(model, revision)
    if constants.is_offline_mode():
        if snapshot is None:
            raise ValueError(
                f"HF_HUB_OFFLINE is set, and the model {name} is neither a folder "
                f"nor in the cache {constants.HF_HUB_CACHE}: unset it, or name a folder"
            )
        return
    refusal = _ask_hub(model, revision, token, config)
    if refusal is None:
        return
    if snapshot is None:
        raise ValueError(refusal.line)
    if refusal.reached:
        _logger.warning(
            "%s answers %s: what the cache holds of the model %s is used",
            constants.ENDPOINT,
            refusal.why,
            name,
        )
    elif weights and not _holds_weights(snapshot):
        _logger.warning(
            "cannot reach %s (%s): the cache holds the model %s without all of its weights, which "
            "will be asked for again",
            constants.ENDPOINT,
            refusal.why,
            name,
        )
    elif go_offline:
        _logger.warning(
            "cannot reach %s (%s): the model %s comes from the cache, as with HF_HUB_OFFLINE=1",
            constants.ENDPOINT,
            refusal.why,
            name,
        )
        os.environ["HF_HUB_OFFLINE"] = "1"  # for children
        constants.HF_HUB_OFFLINE = True


def _cached_snapshot(model: str, revision: str | None, names: tuple[str, ...]) -> Path | None:
    """The cache's folder of this revision, if it holds one of these files."""
    for name in names:
        if isinstance(file := try_to_load_from_cache(model, name, revision=revision), str):
            return Path(file).parent
    return None


def _holds_weights(snapshot: Path) -> bool:
    """Whether all weights of one format are there: downloads may have been interrupted."""
    for index in snapshot.glob("*.index.json"):
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError):
            continue
        if shards and all((snapshot / shard).is_file() for shard in shards):
            return True
    files = [file for kind in ("safetensors", "bin", "pt") for file in snapshot.glob(f"*.{kind}")]
    return any("-of-" not in file.name and file.is_file() for file in files)


@dataclass(frozen=True)
class _Refusal:
    """Why the hub did not give the configuration.

    Attributes:
        why: a status, or what kept it from answering.
        reached: whether it answered.
        line: for who has no copy in the cache.
    """

    why: str
    reached: bool
    line: str


def _ask_hub(
    model: str, revision: str | None, token: str | bool | None, config: bool
) -> _Refusal | None:
    """None if the hub has the configuration, or the model where no configuration is needed.

    Raises:
        ValueError: the hub has no such revision or no configuration; cached files of the same
            name are none of what was asked for, and transformers takes none either.
    """
    timeout = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or _HUB_TIMEOUT)
    url = hf_hub_url(model, _CONFIG, revision=revision)
    name = _at(model, revision)
    try:
        _within(2 * timeout, lambda: get_hf_file_metadata(url, token=token, timeout=timeout))
    except RevisionNotFoundError:
        raise ValueError(f"the model {model!r} has no revision {revision!r}") from None
    except EntryNotFoundError:
        if not config:
            return None
        raise ValueError(f"the model {name} has no {_CONFIG}: it is not a checkpoint") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        return _Refusal(str(status), True, _refusal_line(error, status, model, name))
    except Exception as error:  # of many kinds, by what stands between us and the hub
        why = " ".join(str(error).split()) or type(error).__name__
        return _Refusal(
            why,
            False,
            f"cannot reach {constants.ENDPOINT} to look for the model {name} ({why}), "
            f"{_NOWHERE}: check the network and HF_ENDPOINT, or name a folder",
        )
    return None


def _refusal_line(error: HfHubHTTPError, status: int, model: str, name: str) -> str:
    if isinstance(error, GatedRepoError):  # which is a RepositoryNotFoundError too
        return (
            f"the model {name} is gated: ask for access at {constants.ENDPOINT}/{model}, then "
            f"log in ({_LOGIN})"
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"there is no model {name} on {constants.ENDPOINT} that you may see, and no folder of "
            f"that name: check the name; if it is private, log in ({_LOGIN})"
        )
    if status in (401, 403):
        return (
            f"{constants.ENDPOINT} refuses access to the model {name} ({status}): check the "
            f"name, and log in with a token that may read it ({_LOGIN})"
        )
    if status == 404:
        return (
            f"there is no model {name} on {constants.ENDPOINT}, and no folder of that name: "
            "check the name"
        )
    return (
        f"{constants.ENDPOINT} answers {status} when asked for the model {name}, {_NOWHERE}: try "
        "again later, or name a folder"
    )


def _within(seconds: float, call: Callable[[], object]) -> None:
    """Runs ``call`` for so long at most, in a thread that is left behind if need be.

    Raises:
        TimeoutError: it is still at it.
        Exception: what ``call`` raises.
    """
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="hub-lookup", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {seconds:g} s")
    if raised:
        raise raised[0]


def _at(model: str, revision: str | None) -> str:
    return repr(model) if revision is None else f"{model!r} at {revision!r}"
