"""Whether a named checkpoint can be had: a folder, the hub or its cache, told within seconds."""

import logging
import os
import threading
from collections.abc import Callable
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
# Seconds that the hub has to answer one request, and all of the lookup, unless the environment
# says otherwise: hanging name servers know no time limit of their own.
_HUB_TIMEOUT = 5.0
_LOGIN = "hf auth login, or HF_TOKEN in the environment"

_logger = logging.getLogger(__name__)


def find_checkpoint(
    model: str,
    revision: str | None = None,
    token: str | bool | None = None,
    go_offline: bool = True,
) -> None:
    """Makes sure that a checkpoint's configuration can be read, with one request and no retries.

    If the hub cannot be reached but its cache holds the checkpoint, the Hugging Face libraries of
    this process and its children are told to stay offline, as by ``HF_HUB_OFFLINE=1``: every one
    of their requests would be tried again for minutes.

    Args:
        model: a folder or a Hugging Face id. URLs of object storage are left to vLLM.
        token: as ``huggingface_hub`` takes it; None: the one that is logged in, if any.
        go_offline: whether an unreachable hub may change this process so.

    Raises:
        ValueError: no such folder or model, no permission, or nobody to ask; one line that names
            the model and the mend.
    """
    folder = Path(model)
    if folder.is_dir():
        if not (folder / _CONFIG).is_file():
            raise ValueError(f"the folder {model!r} has no {_CONFIG}: it is not a checkpoint")
        return
    if folder.exists() or "://" in model or os.environ.get("VLLM_USE_MODELSCOPE"):
        return
    no_folder = f"there is no folder {model!r} (from {Path.cwd()})"
    if not _may_be_an_id(model):
        raise ValueError(no_folder)
    try:
        _find_id(model, revision, token, go_offline)
    except ValueError as error:
        if "/" in model and folder.parent.is_dir():  # so a folder may have been meant
            raise ValueError(f"{no_folder}; and as a Hugging Face id: {error}") from None
        raise


def _may_be_an_id(model: str) -> bool:
    paths = model.startswith((".", "/", "~")) or "\\" in model or model.endswith("/")
    return not paths and model.count("/") < 2


def _find_id(model: str, revision: str | None, token: str | bool | None, go_offline: bool) -> None:
    try:
        cached = isinstance(try_to_load_from_cache(model, _CONFIG, revision=revision), str)
    except HFValidationError:
        raise ValueError(f"{model!r} is neither a folder nor a Hugging Face model id") from None
    if constants.is_offline_mode():
        if not cached:
            raise ValueError(
                f"HF_HUB_OFFLINE is set, and the model {_at(model, revision)} is neither a folder "
                f"nor in the cache {constants.HF_HUB_CACHE}: unset it, or name a folder"
            )
        return
    unreachable = _ask_hub(model, revision, token)
    if unreachable is None:
        return
    if not cached:
        raise ValueError(
            f"cannot reach {constants.ENDPOINT} to look for the model {_at(model, revision)} "
            f"({unreachable}), which is neither a folder nor in the cache "
            f"{constants.HF_HUB_CACHE}: check the network and HF_ENDPOINT, or name a folder"
        )
    if go_offline:
        _logger.warning(
            "cannot reach %s (%s): the model %s comes from the cache, as with HF_HUB_OFFLINE=1",
            constants.ENDPOINT,
            unreachable,
            _at(model, revision),
        )
        os.environ["HF_HUB_OFFLINE"] = "1"  # for children
        constants.HF_HUB_OFFLINE = True


def _ask_hub(model: str, revision: str | None, token: str | bool | None) -> str | None:
    """None if the hub has the configuration, or why it could not be asked.

    Raises:
        ValueError: the hub says no.
    """
    timeout = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or _HUB_TIMEOUT)
    url = hf_hub_url(model, _CONFIG, revision=revision)
    name = _at(model, revision)
    try:
        _within(2 * timeout, lambda: get_hf_file_metadata(url, token=token, timeout=timeout))
    except GatedRepoError:
        raise ValueError(
            f"the model {name} is gated: ask for access at {constants.ENDPOINT}/{model}, then "
            f"log in ({_LOGIN})"
        ) from None
    except RepositoryNotFoundError:
        raise ValueError(
            f"there is no model {name} on {constants.ENDPOINT} that you may see, and no folder of "
            f"that name: check the name; if it is private, log in ({_LOGIN})"
        ) from None
    except RevisionNotFoundError:
        raise ValueError(f"the model {model!r} has no revision {revision!r}") from None
    except EntryNotFoundError:
        raise ValueError(f"the model {name} has no {_CONFIG}: it is not a checkpoint") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise ValueError(
                f"{constants.ENDPOINT} refuses access to the model {name} ({status}): check the "
                f"name, and log in with a token that may read it ({_LOGIN})"
            ) from None
        if status == 404:
            raise ValueError(
                f"there is no model {name} on {constants.ENDPOINT}, and no folder of that name: "
                "check the name"
            ) from None
        return f"it answers {status}"
    except Exception as error:  # of many kinds, by what stands between us and the hub
        return " ".join(str(error).split()) or type(error).__name__
    return None


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
